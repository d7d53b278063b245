"""Figures of servers side by side: from the times of answers to the medians of rounds.

Knows nothing of processes, HTTP or models, nor of what is asked of the figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from benchmarks.common.report import Machine, Memory, Verdict

OURS, OURS_PLAIN = "ours", "ours-plain"
LLAMA_SERVER, LLAMA_CPP_PYTHON = "llama-server", "llama-cpp-python"
NAMES = {
    OURS: "sheily_server",
    OURS_PLAIN: "sheily_server, speculation off",
    LLAMA_SERVER: "llama-server",
    LLAMA_CPP_PYTHON: "llama-cpp-python",
}
"""The contestants as people read them, in the order of the table."""

SINGLE, LONG_PROMPT, FOUR_TURNS = "single", "long-prompt", "four-turns"
CLIENTS_8, SHARED_SYSTEM, COPY_HEAVY = "clients-8", "shared-system", "copy-heavy"
PREDICTION, NO_REPETITION = "prediction", "no-repetition"
MIXED, LONG_BESIDE_STREAMS = "mixed", "long-beside-streams"
SCENARIOS = (
    *(SINGLE, LONG_PROMPT, FOUR_TURNS, CLIENTS_8, SHARED_SYSTEM, COPY_HEAVY),
    *(PREDICTION, NO_REPETITION, MIXED, LONG_BESIDE_STREAMS),
)
"""In the order in which they run; the one that breaks off its answers is the last."""


class Answer(msgspec.Struct, frozen=True):
    """A streamed answer. Times are seconds of a monotonic clock, `sent` that of the request.

    `times` has the arrivals of text, one for all that came together: that may be several tokens,
    and a token may give no text. `done` is when the end was announced. What the server did not say
    is None; `computed_tokens` are those of the prompt that were not in a cache. `whole` says that
    all the tokens came which were asked for.
    """

    sent: float
    times: list[float]
    done: float
    n_tokens: int
    text: str
    whole: bool
    prompt_tokens: int | None = None
    computed_tokens: int | None = None
    accepted_tokens: int | None = None
    rejected_tokens: int | None = None

    @property
    def first_s(self) -> float:
        """From the request to the first text; to the end where there was no text."""
        return (self.times[0] if self.times else self.done) - self.sent

    @property
    def gaps_s(self) -> list[float]:
        """Between the arrivals of text."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    @property
    def decode_rate(self) -> float | None:
        """Tokens a second behind the first one; None where all came at once."""
        if self.n_tokens < 2 or not self.times or self.done <= self.times[0]:
            return None
        return (self.n_tokens - 1) / (self.done - self.times[0])


class Figures(msgspec.Struct, frozen=True):
    """One scenario with one contestant in one round; None for what cannot be said.

    `tokens_per_s` is over all answers, prompts included; `decode_per_s` that of an answer behind
    its first token (median of the answers). `computed_tokens` of the prompts were in no cache.
    `short_answers` had other lengths than were asked for. In `long-beside-streams` the first token
    is that of the long prompt, the gaps are the streams' while it was computed, and
    `ordinary_gap_s` is their median before and after. In `prediction` `plain_per_s` is the speed of
    the same answer without one. Where answers were asked in couples, `rates` has the decode speed
    of each and `plain_rates` that of the same without a prediction, in their order. `others_cpu`:
    cores that other programs used meanwhile.
    """

    n_answers: int
    n_tokens: int
    short_answers: int
    first_p50_s: float
    first_p95_s: float
    gap_p50_s: float | None
    gap_p99_s: float | None
    decode_per_s: float | None
    tokens_per_s: float | None
    wall_s: float
    computed_tokens: int | None
    turn_first_s: list[float] = []
    ordinary_gap_s: float | None = None
    plain_per_s: float | None = None
    rates: list[float | None] = []
    plain_rates: list[float | None] = []
    accepted_tokens: int | None = None
    rejected_tokens: int | None = None
    others_cpu: float = 0.0


class Turn(msgspec.Struct, frozen=True):
    """What one contestant did in a round; its memory is that after all scenarios, None where it was
    only one of a pair."""

    scenarios: dict[str, Figures]
    memory: Memory | None = None


Round = dict[str, Turn]
"""The turns of the contestants, by name."""


class Report(msgspec.Struct, frozen=True):
    """Everything that a run found; its JSON is the last line of the output.

    `visits_per_s` is the rate of arrivals in the mixed scenario, `contestants` says how each was
    started, `notes` what was left out and why.
    """

    model: str
    model_bytes: int
    threads: int
    context_size: int
    parallel: int
    tokens: int
    long_answer: int
    minutes: float
    visits_per_s: float | None
    machine: Machine
    contestants: dict[str, str]
    notes: list[str]
    scenarios: dict[str, dict[str, Figures]]
    memory: dict[str, Memory]
    verdicts: list[Verdict]
    rounds: list[Round]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies, between neighbours in proportion.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5), percentile([1.0, 2.0], 1.0)
    (2.5, 2.0)
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def figures(answers: Sequence[Answer]) -> Figures:
    """Those that any answers have; together from the first request to the last answer's end."""
    firsts = [answer.first_s for answer in answers]
    gaps = [gap for answer in answers for gap in answer.gaps_s]
    rates = [rate for answer in answers if (rate := answer.decode_rate) is not None]
    n_tokens = sum(answer.n_tokens for answer in answers)
    wall_s = max(answer.done for answer in answers) - min(answer.sent for answer in answers)
    return Figures(
        n_answers=len(answers),
        n_tokens=n_tokens,
        short_answers=sum(not answer.whole for answer in answers),
        first_p50_s=percentile(firsts, 0.5),
        first_p95_s=percentile(firsts, 0.95),
        gap_p50_s=percentile(gaps, 0.5) if gaps else None,
        gap_p99_s=percentile(gaps, 0.99) if gaps else None,
        decode_per_s=median(rates) if rates else None,
        tokens_per_s=n_tokens / wall_s if wall_s > 0 else None,
        wall_s=wall_s,
        computed_tokens=_total(answer.computed_tokens for answer in answers),
        accepted_tokens=_total(answer.accepted_tokens for answer in answers),
        rejected_tokens=_total(answer.rejected_tokens for answer in answers),
    )


def in_turn(answers: Sequence[Answer]) -> Figures:
    """Those of answers one after the other, with those of another server between them: the time in
    all is the sum of theirs."""
    found = figures(answers)
    wall_s = sum(answer.done - answer.sent for answer in answers)
    return msgspec.structs.replace(
        found,
        wall_s=wall_s,
        tokens_per_s=found.n_tokens / wall_s if wall_s > 0 else None,
        rates=[answer.decode_rate for answer in answers],
    )


def beside(streams: Sequence[Answer], long: Answer) -> Figures:
    """The gaps of the streams from the long prompt's request to its first token, and their ordinary
    ones: those before the request and behind the end of its answer, since the speed of the machine
    may change.

    A gap that is partly in the time of the prompt counts there: the last one ends with the step
    that gave the token.
    """
    ordinary: list[float] = []
    within: list[float] = []
    first = long.sent + long.first_s
    for stream in streams:
        for start, end in zip(stream.times, stream.times[1:], strict=False):
            if end <= long.sent or start >= long.done:
                ordinary.append(end - start)
            elif start < first:
                within.append(end - start)
    return msgspec.structs.replace(
        figures([long]),
        gap_p50_s=percentile(within, 0.5) if within else None,
        gap_p99_s=percentile(within, 0.99) if within else None,
        ordinary_gap_s=median(ordinary) if ordinary else None,
        tokens_per_s=None,
    )


def medians(rounds: Sequence[Round]) -> dict[str, dict[str, Figures]]:
    """By scenario and contestant, each figure's median of the rounds; of `rates` all of them."""
    found: dict[str, dict[str, Figures]] = {}
    for scenario in SCENARIOS:
        for name in NAMES:
            turns = [round_[name].scenarios for round_ in rounds if name in round_]
            seen = [turn[scenario] for turn in turns if scenario in turn]
            if seen:
                found.setdefault(scenario, {})[name] = _median_figures(seen)
    return found


def memories(rounds: Sequence[Round]) -> dict[str, Memory]:
    """The most that each contestant had in any round."""
    found: dict[str, Memory] = {}
    for name in NAMES:
        turns = [round_[name] for round_ in rounds if name in round_]
        seen = [turn.memory for turn in turns if turn.memory is not None]
        if seen:
            found[name] = Memory(
                *(
                    _most(getattr(one, field) for one in seen)
                    for field in ("rss", "peak_rss", "pss")
                )
            )
    return found


def _median_figures(seen: Sequence[Figures]) -> Figures:
    def over(field: str) -> object:
        values = [getattr(one, field) for one in seen]
        if field == "turn_first_s":
            return [median(turn) for turn in zip(*values, strict=True)]
        if field in ("rates", "plain_rates"):
            return [rate for rates in values for rate in rates]
        if field == "others_cpu":
            return max(values)
        known = [value for value in values if value is not None]
        if not known:
            return None
        whole = all(isinstance(value, int) for value in known)
        return round(median(known)) if whole else median(known)

    return msgspec.convert({field: over(field) for field in Figures.__struct_fields__}, Figures)


def _total(values: Iterable[int | None]) -> int | None:
    """None where one of them is."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
