"""The first token of a long conversation's next turn behind a restart of the server.

The tier has the conversation in files that the kernel has in memory, then in files that have to
come from the disk, and the server without the tier computes it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from benchmarks.common.own import Findings, asked, spreads
from benchmarks.common.report import BenchmarkError
from benchmarks.common.words import WORDS
from benchmarks.kvstore import files
from benchmarks.serve.client import Ask, Message, ask_all, user
from benchmarks.serve.contestants import Recipe, Server, ours_with
from benchmarks.serve.report import Answer
from benchmarks.serve.texts import sized
from benchmarks.serve.token_counter import Count, token_counter

TOKENS = 3500
ASKED = 1 / 20
ASKED_COLD_MS = 300
CACHE_GB = 64
_ANSWER_TOKENS = 16
_FEW_TOKENS = 4
_STOP_S = 100.0


@dataclass
class _Seen:
    """What the rounds have given, in their order."""

    computed: list[Answer] = field(default_factory=list)
    warm: list[Answer] = field(default_factory=list)
    cold: list[Answer] = field(default_factory=list)
    n_bytes: list[int] = field(default_factory=list)
    disk_s: list[float] = field(default_factory=list)


def measure(model: Path, rounds: int, n_tokens: int, parent: Path) -> Findings:
    """Raises BenchmarkError."""
    seen = _Seen()
    with (
        files.scratch(parent) as folder,
        files.scratch(parent) as before,
        token_counter(model) as count,
    ):
        without = ours_with(model)
        tier = ours_with(model, cache_dir=folder, cache_gb=CACHE_GB)
        for seed in tqdm(range(rounds), disable=None, leave=False):
            choose = random.Random(seed)
            history = _begin(tier, folder, choose, count, n_tokens)
            files.replace(before, by=folder)
            kept = sorted(files.inside(folder))
            if not kept:
                raise BenchmarkError("the tier wrote nothing")
            files.read(kept)
            seen.warm.append(_go_on(tier, history, choose))
            files.replace(folder, by=before)  # that turn may have taken the place of a tail
            files.forget(kept)
            seen.n_bytes.append(files.total_bytes(kept))
            seen.disk_s.append(files.read(kept))
            seen.cold.append(_go_on(tier, history, choose, forgotten=kept))
            seen.computed.append(_go_on(without, history, choose))
            for path in files.inside(folder):
                path.unlink()
    return _findings(seen)


def _begin(
    tier: Recipe, folder: Path, choose: random.Random, count: Count, n_tokens: int
) -> list[Message]:
    """The conversation so far, which the tier has when the server has ended."""
    text = sized(choose, count, n_tokens - _ANSWER_TOKENS, "Which of these words are rare?")
    with Server(tier) as server:
        history = [user(text)]
        (answer,) = ask_all(server.address, [Ask(history, _ANSWER_TOKENS)], tier.extra)
        files.wait_until_still(folder)
        server.stop(_STOP_S)
    return [*history, {"role": "assistant", "content": answer.text}]


def _go_on(
    recipe: Recipe,
    history: list[Message],
    choose: random.Random,
    forgotten: list[Path] | None = None,
) -> Answer:
    """The next turn, asked of a server that has just been started. It is another turn each time:
    the tier would have it too."""
    question = user(f"And the {choose.choice(WORDS)}, is it {choose.choice(WORDS)}?")
    with Server(recipe) as server:
        warm_up = Ask([user("Good morning.")], _FEW_TOKENS)
        ask_all(server.address, [warm_up], recipe.extra)
        files.forget(forgotten or ())
        ask = Ask([*history, question], _FEW_TOKENS)
        (answer,) = ask_all(server.address, [ask], recipe.extra)
        server.stop(_STOP_S)
    return answer


def _findings(seen: _Seen) -> Findings:
    computed = [answer.first_s for answer in seen.computed]
    warm = [answer.first_s for answer in seen.warm]
    cold = [answer.first_s for answer in seen.cold]
    ratios = [one / other for one, other in zip(warm, computed, strict=True)]
    more_ms = [1e3 * (one - disk) for one, disk in zip(cold, seen.disk_s, strict=True)]
    figures = spreads(
        {
            "tokens of the prompt": [answer.prompt_tokens or 0 for answer in seen.warm],
            "of them computed, with the tier": [a.computed_tokens or 0 for a in seen.warm],
            "of them computed, without": [a.computed_tokens or 0 for a in seen.computed],
            "files of the conversation, MB": [size / 1e6 for size in seen.n_bytes],
            "the disk reads them in, s": seen.disk_s,
            "first token, computed, s": computed,
            "first token, files in memory, s": warm,
            "first token, files on the disk alone, s": cold,
        }
    )
    verdicts = [
        asked("first token behind a restart, tier / computed", ASKED, ratios),
        asked(
            "from a cold disk, over the time to read the files", ASKED_COLD_MS, more_ms, unit="ms"
        ),
    ]
    return Findings(figures, verdicts)
