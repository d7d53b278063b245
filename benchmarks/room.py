"""Sixteen clients at once: the default of LLM_PARALLEL over four at a time in the same KV cells.

    python -m benchmarks.room

The two servers run one after the other, in another order each round.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tqdm import tqdm

from benchmarks.common import own
from benchmarks.common.own import Findings, asked, spreads
from benchmarks.common.report import BenchmarkError
from benchmarks.serve.client import Ask, ask_all, user
from benchmarks.serve.contestants import Recipe, Server, ours_with
from benchmarks.serve.report import Answer, figures
from benchmarks.serve.texts import sized
from benchmarks.serve.token_counter import token_counter
from sheily_server.config import Config

NAME = "benchmarks.room"
CLIENTS = 16
PROMPT_TOKENS, ANSWER_TOKENS = 200, 200
FEW_AT_ONCE = 4
ASKED, ASKED_MEMORY = 1.5, 1.05
_FEW_TOKENS = 4
_ROOMY, _FEW = "default", f"{FEW_AT_ONCE} at a time"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one server did in a round."""

    tokens_per_s: float
    decode_per_s: float
    last_first_s: float
    rss: float


def measure(model: Path, rounds: int) -> Findings:
    """Raises BenchmarkError."""
    cells = FEW_AT_ONCE * Config().context_size
    recipes = {
        _ROOMY: ours_with(model, speculation="off"),
        _FEW: ours_with(model, speculation="off", parallel=FEW_AT_ONCE, kv_tokens=cells),
    }
    at_once = {_ROOMY: Config().parallel, _FEW: FEW_AT_ONCE}
    turns: dict[str, list[Turn]] = {name: [] for name in recipes}
    with token_counter(model) as count:
        for seed in tqdm(range(rounds), disable=None, leave=False):
            choose = random.Random(seed)
            texts = [
                sized(choose, count, PROMPT_TOKENS, "Tell a story of these words.")
                for _ in range(CLIENTS)
            ]
            for name in sorted(recipes, reverse=bool(seed % 2)):
                turns[name].append(_turn(recipes[name], texts, at_once[name]))
    return _findings(turns)


def _turn(recipe: Recipe, texts: Sequence[str], at_once: int) -> Turn:
    with Server(recipe) as server:
        ask_all(server.address, [Ask([user("Good morning.")], _FEW_TOKENS)], recipe.extra)
        asks = [Ask([user(text)], ANSWER_TOKENS) for text in texts]
        answers = ask_all(server.address, asks, recipe.extra)
        rss = server.memory().rss
    found = figures(answers)
    if found.short_answers or found.tokens_per_s is None or not rss:
        raise BenchmarkError(f"{found.short_answers} answers are not whole")
    return Turn(found.tokens_per_s, decode_phase_rate(answers, at_once), found.first_p95_s, rss)


def decode_phase_rate(answers: Sequence[Answer], at_once: int) -> float:
    """Tokens a second of all answers together while no prompt is computed: `at_once` of them
    stream, or all that are left. They were asked for at the same time.

    Not every token of random weights gives text, so an arrival counts as its answer's mean.
    """
    streams = [answer for answer in answers if answer.times]
    changes = sorted(
        [(answer.times[0], 1) for answer in streams]
        + [(answer.times[-1], -1) for answer in streams]
    )
    running, left = 0, len(streams)
    spans: list[tuple[float, float]] = []
    for (time, change), (next_time, _) in pairwise(changes):
        running += change
        left += min(change, 0)
        if running == min(at_once, left):
            spans.append((time, next_time))
    seconds = sum(end - start for start, end in spans)
    if seconds <= 0:
        raise BenchmarkError("a prompt was computed at any time, so that there is no decode phase")
    tokens = sum(
        answer.n_tokens / len(answer.times)
        for answer in streams
        for time in answer.times
        if any(start < time <= end for start, end in spans)
    )
    return tokens / seconds


def _findings(turns: dict[str, list[Turn]]) -> Findings:
    seen: dict[str, list[float]] = {}
    for name, of_one in turns.items():
        seen[f"tokens/s in all, {name}"] = [turn.tokens_per_s for turn in of_one]
        seen[f"tokens/s in the decode phase, {name}"] = [turn.decode_per_s for turn in of_one]
        seen[f"first token p95, {name}, s"] = [turn.last_first_s for turn in of_one]
        seen[f"resident memory, {name}, GB"] = [turn.rss / 1e9 for turn in of_one]
    couples = list(zip(turns[_ROOMY], turns[_FEW], strict=True))
    decode = [roomy.decode_per_s / few.decode_per_s for roomy, few in couples]
    seen["decode phase alone, ratio"] = decode
    in_all = [roomy.tokens_per_s / few.tokens_per_s for roomy, few in couples]
    memory = [roomy.rss / few.rss for roomy, few in couples]
    verdicts = [
        asked(f"{CLIENTS} clients, tokens/s in all, default / 4", ASKED, in_all, at_least=True),
        asked("resident memory, default / 4 at a time", ASKED_MEMORY, memory),
    ]
    return Findings(spreads(seen), verdicts)


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m benchmarks.room`; the exit status is 1 when nothing could be measured."""
    text = f"{CLIENTS} clients at once: the default of LLM_PARALLEL over {FEW_AT_ONCE}."
    options = own.parser(NAME, text, rounds=2).parse_args(arguments)
    return own.finish(NAME, options, lambda model: measure(model, options.rounds))


if __name__ == "__main__":
    raise SystemExit(main())
