"""Figures of the engine's benchmark: rates beside their bounds, ratios, and what was asked.

Knows nothing of models or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

import msgspec

from benchmarks.common.report import Machine, Memory, Spread, Verdict, judge, spread

OURS, STOCK, LLAMA_BENCH, OPENVINO = "ours", "stock", "llama-bench", "openvino"
OURS_AVX2, LLAMA_BENCH_AVX2 = "ours-avx2", "llama-bench-avx2"
NAMES = {
    OURS: "sheily_native",
    STOCK: "stock kernels, same build",
    LLAMA_BENCH: "llama-bench",
    OPENVINO: "OpenVINO GenAI",
    OURS_AVX2: "sheily_native, AVX2 alone",
    LLAMA_BENCH_AVX2: "llama-bench, AVX2 build",
}
"""The contestants as people read them, in the order of the table."""

Kind = Literal["prefill", "decode", "long_decode"]
STEADY = 0.1
"""Bounds before and after that differ by more than this share say that the machine changed."""
NOT_SLOWER = 0.97
"""A ratio of two equally fast sides comes out lower than 1 in half of all runs."""


class Figure(msgspec.Struct, frozen=True):
    """A rate between two measures of what bounds it, all in tokens a second.

    `bounds` is empty where no bound is known: the integer peak on a CPU without a kernel of ours.
    """

    rate: float
    bounds: list[float] = []

    @property
    def of_bound(self) -> float | None:
        return self.rate / mean(self.bounds) if self.bounds else None

    @property
    def steady(self) -> bool:
        return not self.bounds or max(self.bounds) <= (1 + STEADY) * min(self.bounds)


class Steps(msgspec.Struct, frozen=True):
    """Seconds of a step with one sequence and with `n_sequences`."""

    n_sequences: int
    one_s: float
    many_s: float

    @property
    def ratio(self) -> float:
        return self.many_s / self.one_s


class Turn(msgspec.Struct, frozen=True):
    """What one contestant did in a round. `others_cpu`: cores that other programs used meanwhile;
    `resident_floor`: bytes of the file and the KV cache.
    """

    others_cpu: float
    prefill: Figure | None = None
    decode: Figure | None = None
    long_decode: Figure | None = None
    steps: Steps | None = None
    load_s: float | None = None
    memory: Memory | None = None
    resident_floor: int | None = None


Round = dict[str, Turn]
"""The turns of the contestants, by name."""


class Summary(msgspec.Struct, frozen=True):
    """A contestant over all rounds; rates in tokens/s, `*_of_bound` without a unit."""

    prefill: Spread | None
    prefill_of_bound: Spread | None
    decode: Spread | None
    decode_of_bound: Spread | None
    long_decode: Spread | None
    long_decode_of_bound: Spread | None
    step_one_ms: Spread | None
    step_many_ms: Spread | None
    step_ratio: Spread | None
    load_s: Spread | None
    rss: int | None
    peak_rss: int | None


class Comparison(msgspec.Struct, frozen=True):
    """How many times the rate of a peer we have, a round at a time."""

    ours: str
    peer: str
    prefill: Spread | None
    decode: Spread | None
    long_decode: Spread | None


class Bounds(msgspec.Struct, frozen=True):
    """What the machine could do, over all rounds: bytes/s, and multiply-adds/s by kernel."""

    memory: Spread
    integer: dict[str, Spread]
    bytes_a_token: int
    multiply_adds_a_token: int
    prompt_multiply_adds_a_token: float


class FormatRounds(msgspec.Struct, frozen=True):
    """A file in another format: rounds of `OURS` (automatic kernel) and `STOCK` (ours off)."""

    name: str
    bytes_a_token: int
    rounds: list[Round]


class FormatSummary(msgspec.Struct, frozen=True):
    """A format: rates in tokens/s, and how many times the stock rate ours is."""

    name: str
    bytes_a_token: int
    ours: Summary
    stock: Summary
    against_stock: Comparison


class Report(msgspec.Struct, frozen=True):
    """Everything that a run found; its JSON is the last line of the output.

    `others_cpu` is the most that other programs used in a turn, in cores; `disturbed` counts turns
    with more of it than was allowed, `unsteady` figures between two bounds that differ.
    """

    model: str
    model_bytes: int
    threads: int
    prefill_tokens: int
    decode_tokens: int
    long_tokens: int
    n_sequences: int
    n_rounds: int
    machine: Machine
    kernel: str | None
    peers: dict[str, str]
    bounds: Bounds
    contestants: dict[str, Summary]
    comparisons: list[Comparison]
    verdicts: list[Verdict]
    formats: list[FormatSummary]
    others_cpu: float
    disturbed: int
    unsteady: int
    rounds: list[Round]


@dataclass(frozen=True, slots=True)
class Aim:
    """What is asked of the 3B shape: the value of a round, and where it should be."""

    name: str
    asked: float
    at_least: bool
    value: Callable[[Round], float | None]
    unit: str = ""


def rate_ratio(round_: Round, ours: str, peer: str, kind: Kind) -> float | None:
    """None where one of the two was not measured."""
    figures = [getattr(round_[name], kind) for name in (ours, peer) if name in round_]
    if len(figures) < 2 or None in figures:
        return None
    return float(figures[0].rate / figures[1].rate)


def of_bound(round_: Round, name: str, kind: Kind) -> float | None:
    """None where it was not measured, or has no bound."""
    figure = getattr(round_[name], kind) if name in round_ else None
    return None if figure is None else figure.of_bound


def _step_ratio(round_: Round) -> float | None:
    turn = round_.get(OURS)
    return None if turn is None or turn.steps is None else turn.steps.ratio


def _beyond_file_and_kv_mb(round_: Round) -> float | None:
    turn = round_.get(OURS)
    if turn is None or turn.memory is None or turn.memory.rss is None:
        return None
    assert turn.resident_floor is not None
    return (turn.memory.rss - turn.resident_floor) / 1e6


def _load_ratio(round_: Round) -> float | None:
    times = [round_[name].load_s for name in (OURS, STOCK) if name in round_]
    if len(times) < 2 or times[0] is None or times[1] is None:
        return None
    return times[0] / times[1]


def _against(ours: str, peer: str, kind: Kind) -> Callable[[Round], float | None]:
    return lambda round_: rate_ratio(round_, ours, peer, kind)


def _bound(name: str, kind: Kind) -> Callable[[Round], float | None]:
    return lambda round_: of_bound(round_, name, kind)


AIMS = (
    Aim("decode, against llama-bench", 1.9, True, _against(OURS, LLAMA_BENCH, "decode")),
    Aim("decode, of the memory bound", 0.95, True, _bound(OURS, "decode")),
    Aim("prefill, against llama-bench", 5.5, True, _against(OURS, LLAMA_BENCH, "prefill")),
    Aim("prefill, of the integer peak", 0.70, True, _bound(OURS, "prefill")),
    Aim("prefill, against OpenVINO GenAI", 1.5, True, _against(OURS, OPENVINO, "prefill")),
    Aim("a step with 8 sequences, against one", 1.25, False, _step_ratio),
    Aim("AVX2 alone: decode, of the memory bound", 0.90, True, _bound(OURS_AVX2, "decode")),
    Aim(
        *("AVX2 alone: prefill, against llama-bench of an AVX2 build", 2.0, True),
        _against(OURS_AVX2, LLAMA_BENCH_AVX2, "prefill"),
    ),
    Aim("resident size beyond file and KV cache", 800, False, _beyond_file_and_kv_mb, "MB"),
    Aim("load time, against stock without mmap", 1.5, False, _load_ratio),
)


def verdicts(rounds: Sequence[Round], formats: Sequence[FormatRounds] = ()) -> list[Verdict]:
    """What was asked and could be measured, by the median of the rounds."""
    found = [_verdict(aim, rounds) for aim in AIMS]
    for one in formats:
        for kind in ("decode", "prefill"):
            name = f"{one.name}: {kind}, against the stock kernels"
            aim = Aim(name, NOT_SLOWER, True, _against(OURS, STOCK, kind))
            found.append(_verdict(aim, one.rounds))
    return [verdict for verdict in found if verdict is not None]


def _verdict(aim: Aim, rounds: Sequence[Round]) -> Verdict | None:
    seen = spread(value for round_ in rounds if (value := aim.value(round_)) is not None)
    return None if seen is None else judge(aim.name, aim.asked, aim.at_least, seen, aim.unit)


def summarize(turns: Sequence[Turn]) -> Summary:
    """One contestant's turns."""

    def rates(kind: Kind) -> Spread | None:
        return spread(figure.rate for figure in _figures(turns, kind))

    def shares(kind: Kind) -> Spread | None:
        found = (figure.of_bound for figure in _figures(turns, kind))
        return spread(share for share in found if share is not None)

    steps = [turn.steps for turn in turns if turn.steps is not None]
    memories = [turn.memory for turn in turns if turn.memory is not None]
    return Summary(
        prefill=rates("prefill"),
        prefill_of_bound=shares("prefill"),
        decode=rates("decode"),
        decode_of_bound=shares("decode"),
        long_decode=rates("long_decode"),
        long_decode_of_bound=shares("long_decode"),
        step_one_ms=spread(1e3 * one.one_s for one in steps),
        step_many_ms=spread(1e3 * one.many_s for one in steps),
        step_ratio=spread(one.ratio for one in steps),
        load_s=spread(turn.load_s for turn in turns if turn.load_s is not None),
        rss=max((one.rss for one in memories if one.rss is not None), default=None),
        peak_rss=max((one.peak_rss for one in memories if one.peak_rss is not None), default=None),
    )


def summaries(rounds: Sequence[Round]) -> dict[str, Summary]:
    """Every contestant that took part, in the table's order."""
    return {
        name: summarize([round_[name] for round_ in rounds if name in round_])
        for name in NAMES
        if any(name in round_ for round_ in rounds)
    }


def compare(rounds: Sequence[Round], ours: str, peer: str) -> Comparison:
    """Round by round, so that what both saw of the machine was the same as nearly as can be."""

    def ratios(kind: Kind) -> Spread | None:
        found = (rate_ratio(round_, ours, peer, kind) for round_ in rounds)
        return spread(ratio for ratio in found if ratio is not None)

    return Comparison(ours, peer, ratios("prefill"), ratios("decode"), ratios("long_decode"))


def comparisons(rounds: Sequence[Round]) -> list[Comparison]:
    """Ours against each of the peers that took part, AVX2 against AVX2."""
    pairs = [(OURS, peer) for peer in (STOCK, LLAMA_BENCH, OPENVINO)]
    pairs.append((OURS_AVX2, LLAMA_BENCH_AVX2))
    names = set().union(*rounds) if rounds else set()
    return [compare(rounds, *pair) for pair in pairs if set(pair) <= names]


def format_summary(one: FormatRounds) -> FormatSummary:
    return FormatSummary(
        name=one.name,
        bytes_a_token=one.bytes_a_token,
        ours=summarize([round_[OURS] for round_ in one.rounds]),
        stock=summarize([round_[STOCK] for round_ in one.rounds]),
        against_stock=compare(one.rounds, OURS, STOCK),
    )


def unsteady_figures(rounds: Sequence[Round]) -> int:
    """How many figures stand between two bounds that differ by more than `STEADY`."""
    kinds: tuple[Kind, ...] = ("prefill", "decode", "long_decode")
    turns = [turn for round_ in rounds for turn in round_.values()]
    return sum(not figure.steady for kind in kinds for figure in _figures(turns, kind))


def _figures(turns: Sequence[Turn], kind: Kind) -> list[Figure]:
    return [figure for turn in turns if (figure := getattr(turn, kind)) is not None]
