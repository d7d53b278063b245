"""What is asked of our server beside its peers, and whether it was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.common.report import Verdict, judge, spread
from benchmarks.serve.report import (
    CLIENTS_8,
    COPY_HEAVY,
    FOUR_TURNS,
    LLAMA_CPP_PYTHON,
    LLAMA_SERVER,
    LONG_BESIDE_STREAMS,
    LONG_PROMPT,
    MIXED,
    NO_REPETITION,
    OURS,
    OURS_PLAIN,
    PREDICTION,
    SHARED_SYSTEM,
    SINGLE,
    Round,
)
from sheily_server.config import Config

MOST_RATIO = 1.1 * Config().stream_slowdown
"""Of a stream's p99 gap beside a prompt to its ordinary one."""

Value = Callable[[Round], Sequence[float]]
"""What a round gives: one ratio, one for each couple of answers, or none."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What is asked: the values of a round, and where their median should be."""

    name: str
    asked: float
    at_least: bool
    value: Value


def _get(round_: Round, name: str, scenario: str, figure: str) -> float | None:
    turn = round_.get(name)
    if turn is None or scenario not in turn.scenarios:
        return None
    found: float | None = getattr(turn.scenarios[scenario], figure)
    return found


def _rates(round_: Round, name: str, scenario: str, figure: str) -> Sequence[float | None]:
    turn = round_.get(name)
    if turn is None or scenario not in turn.scenarios:
        return ()
    found: list[float | None] = getattr(turn.scenarios[scenario], figure)
    return found


def _ratio(over: float | None, under: float | None) -> list[float]:
    return [] if over is None or not under else [over / under]


def _ratios(over: Sequence[float | None], under: Sequence[float | None]) -> list[float]:
    """Of each couple."""
    if not over or not under:
        return []
    return [ratio for couple in zip(over, under, strict=True) for ratio in _ratio(*couple)]


def _against(peer: str, scenario: str, figure: str) -> Value:
    return lambda round_: _ratio(
        _get(round_, OURS, scenario, figure), _get(round_, peer, scenario, figure)
    )


def _later_turns(peer: str) -> Value:
    def later(round_: Round, name: str) -> float | None:
        turn = round_.get(name)
        if turn is None or FOUR_TURNS not in turn.scenarios:
            return None
        return median(turn.scenarios[FOUR_TURNS].turn_first_s[1:])

    return lambda round_: _ratio(later(round_, OURS), later(round_, peer))


def _memory(peer: str) -> Value:
    def resident(round_: Round, name: str) -> float | None:
        turn = round_.get(name)
        return None if turn is None or turn.memory is None else turn.memory.rss

    return lambda round_: _ratio(resident(round_, OURS), resident(round_, peer))


def _own(scenario: str, over: str, under: str) -> Value:
    return lambda round_: _ratio(
        _get(round_, OURS, scenario, over), _get(round_, OURS, scenario, under)
    )


def _speculation(scenario: str) -> Value:
    return lambda round_: _ratios(
        _rates(round_, OURS, scenario, "rates"), _rates(round_, OURS_PLAIN, scenario, "rates")
    )


def _without_prediction(round_: Round) -> list[float]:
    return _ratios(
        _rates(round_, OURS, PREDICTION, "rates"), _rates(round_, OURS, PREDICTION, "plain_rates")
    )


_LINES: tuple[tuple[str, bool, Callable[[str], Value], float, float], ...] = (
    ("single: decode speed", True, lambda p: _against(p, SINGLE, "decode_per_s"), 1.85, 1),
    (
        "long-prompt: first token",
        False,
        lambda p: _against(p, LONG_PROMPT, "first_p50_s"),
        1 / 5,
        1,
    ),
    ("four-turns: first token of later turns", False, _later_turns, 1 / 4, 1),
    ("clients-8: tokens/s in all", True, lambda p: _against(p, CLIENTS_8, "tokens_per_s"), 3.5, 10),
    (
        "shared-system: wall time",
        False,
        lambda p: _against(p, SHARED_SYSTEM, "wall_s"),
        1 / 15,
        0.1,
    ),
    ("resident memory", False, _memory, 1.1, 1),
)
"""Name, whether more is better, ratio to a peer, asked against llama-server, and against
llama-cpp-python."""

_MORE_LINES: tuple[tuple[str, bool, Callable[[str], Value]], ...] = (
    ("copy-heavy: decode speed", True, lambda p: _against(p, COPY_HEAVY, "decode_per_s")),
    ("mixed: first token, p50", False, lambda p: _against(p, MIXED, "first_p50_s")),
    ("mixed: first token, p95", False, lambda p: _against(p, MIXED, "first_p95_s")),
    ("mixed: wall time", False, lambda p: _against(p, MIXED, "wall_s")),
)
"""Where nothing more is asked than to be ahead of llama-cpp-python."""

AIMS = (
    *(Aim(f"{n}, against llama-server", a, more, v(LLAMA_SERVER)) for n, more, v, a, _ in _LINES),
    Aim(
        "long-beside-streams: streams' p99 gap over their ordinary one",
        *(MOST_RATIO, False, _own(LONG_BESIDE_STREAMS, "gap_p99_s", "ordinary_gap_s")),
    ),
    Aim(
        "prediction: decode speed, against the same request without",
        *(6, True, _without_prediction),
    ),
    Aim("prediction: decode speed, against speculation off", 6, True, _speculation(PREDICTION)),
    Aim("copy-heavy: decode speed, speculation on / off", 1.5, True, _speculation(COPY_HEAVY)),
    Aim("no-repetition: decode speed, on / off", 0.97, True, _speculation(NO_REPETITION)),
    *(
        Aim(f"{n}, against llama-cpp-python", a, more, v(LLAMA_CPP_PYTHON))
        for n, more, v, _, a in _LINES
    ),
    *(
        Aim(f"{n}, against llama-cpp-python", 1, more, v(LLAMA_CPP_PYTHON))
        for n, more, v in _MORE_LINES
    ),
)


def verdicts(rounds: Sequence[Round]) -> list[Verdict]:
    """What was asked and could be measured, by the median of the ratios: one a round, and of our
    server with and without speculation one a couple of answers."""
    found = []
    for aim in AIMS:
        seen = spread(value for round_ in rounds for value in aim.value(round_))
        if seen is not None:
            found.append(judge(aim.name, aim.asked, aim.at_least, seen))
    return found
