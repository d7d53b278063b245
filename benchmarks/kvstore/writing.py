"""The speed of prompts and answers while the tier writes, over that of a server without it.

Both servers run at the same time and are asked the same in turn. The blocks of a prompt are written
when its request has ended, so what is measured is what comes right behind another long prompt.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tqdm import tqdm

from benchmarks.common.own import Findings, asked, spreads
from benchmarks.common.report import BenchmarkError
from benchmarks.kvstore import files
from benchmarks.serve.client import Address, Ask, ask_all, user
from benchmarks.serve.contestants import IGNORE_EOS, Server, ours_with
from benchmarks.serve.report import Answer, percentile
from benchmarks.serve.texts import sized
from benchmarks.serve.token_counter import Count, token_counter

ASKED_SPEED = 0.98
ASKED_GAP = 1.15
CACHE_GB = 64
PROMPT_TOKENS = 1100
STREAM_PROMPT_TOKENS = 60
STREAM_TOKENS = 128
_FEW_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """One server in one round: the prompt and the answer that were measured."""

    prompt: Answer
    stream: Answer

    @property
    def prefill_per_s(self) -> float:
        computed = self.prompt.computed_tokens
        if not computed:
            raise BenchmarkError("the server does not say how many tokens of a prompt it computed")
        return computed / self.prompt.first_s

    @property
    def decode_per_s(self) -> float:
        rate = self.stream.decode_rate
        if rate is None:
            raise BenchmarkError("an answer came all at once, so that it has no speed")
        return rate


@dataclass(frozen=True, slots=True)
class Round:
    tier: Turn
    without: Turn


def measure(model: Path, rounds: int, parent: Path) -> Findings:
    """Raises BenchmarkError, also where nothing was written."""
    found: list[Round] = []
    with files.scratch(parent) as folder, token_counter(model) as count:
        without = ours_with(model, parallel=2, speculation="off")
        tier = ours_with(model, parallel=2, speculation="off", cache_dir=folder, cache_gb=CACHE_GB)
        with Server(without) as plain, Server(tier) as writing:
            for address in (plain.address, writing.address):
                ask_all(address, [Ask([user("Good morning.")], _FEW_TOKENS)], IGNORE_EOS)
            for seed in tqdm(range(rounds), disable=None, leave=False):
                texts = _texts(seed, count)
                if seed % 2:
                    first = _turn(writing.address, texts)
                    found.append(Round(first, _turn(plain.address, texts)))
                else:
                    first = _turn(plain.address, texts)
                    found.append(Round(_turn(writing.address, texts), first))
        written = files.total_bytes(files.inside(folder))
    if not written:
        raise BenchmarkError("the tier wrote nothing")
    return _findings(found, written)


def _texts(seed: int, count: Count) -> list[str]:
    choose = random.Random(seed)
    sizes = (PROMPT_TOKENS, PROMPT_TOKENS, STREAM_PROMPT_TOKENS)
    return [sized(choose, count, n_tokens, "Which words are these?") for n_tokens in sizes]


def _turn(address: Address, texts: Sequence[str]) -> Turn:
    """A prompt whose blocks are to be written, one that is measured meanwhile, and an answer that
    is measured while the blocks of the second are written."""
    limits = (1, 1, STREAM_TOKENS)
    _, prompt, stream = [
        ask_all(address, [Ask([user(text)], n_tokens)], IGNORE_EOS)[0]
        for text, n_tokens in zip(texts, limits, strict=True)
    ]
    return Turn(prompt, stream)


def gap_ratio(rounds: Sequence[Round]) -> float:
    """The 99th percentile of the streams' gaps with the tier over that without it. A gap counts in
    units of its round's usual one, as the machine changes its speed."""
    tier: list[float] = []
    without: list[float] = []
    for one in rounds:
        usual = median(one.without.stream.gaps_s)
        tier += [gap / usual for gap in one.tier.stream.gaps_s]
        without += [gap / usual for gap in one.without.stream.gaps_s]
    return percentile(tier, 0.99) / percentile(without, 0.99)


def _findings(rounds: Sequence[Round], written: int) -> Findings:
    sides = {
        "with the tier": [one.tier for one in rounds],
        "without": [one.without for one in rounds],
    }
    figures: dict[str, list[float]] = {}
    for name, turns in sides.items():
        figures[f"prefill, {name}, tokens/s"] = [turn.prefill_per_s for turn in turns]
        figures[f"decode, {name}, tokens/s"] = [turn.decode_per_s for turn in turns]
        figures[f"gap p99, {name}, ms"] = [
            1e3 * percentile(turn.stream.gaps_s, 0.99) for turn in turns
        ]
    figures["written, MB"] = [written / 1e6]
    decode = [one.tier.decode_per_s / one.without.decode_per_s for one in rounds]
    prefill = [one.tier.prefill_per_s / one.without.prefill_per_s for one in rounds]
    verdicts = [
        asked("decode speed while writing / without the tier", ASKED_SPEED, decode, at_least=True),
        asked("prefill speed while writing / without", ASKED_SPEED, prefill, at_least=True),
        asked("gap p99 while writing / without", ASKED_GAP, [gap_ratio(rounds)]),
    ]
    return Findings(spreads(figures), verdicts)
