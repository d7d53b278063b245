"""Figures of the server beside a bare loop: from the times of streams to rates, a table and a JSON
line.

Knows nothing of models, processes or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.common.report import Machine, Memory
from benchmarks.common.table import columns, machine_lines


class UnusableRoundError(Exception):
    """Chance made this round's answers useless for timing; another prompt may do."""


class Stream(msgspec.Struct, frozen=True):
    """One answer. Times are seconds of a monotonic clock, `sent` that of the request.

    `times` has the arrival of each piece of text, first token to last: a token may give no text of
    its own (half a character, a control token), so there can be fewer of them than `n_tokens`. The
    last one is when the answer was complete.
    """

    sent: float
    times: list[float]
    n_tokens: int
    prompt_tokens: int
    cached_tokens: int
    text: str

    def __post_init__(self) -> None:
        if len(self.times) < 2:
            raise UnusableRoundError("an answer had less than two tokens with text")

    @property
    def first_token_s(self) -> float:
        return self.times[0] - self.sent


def steady_rate(streams: Sequence[Stream]) -> float:
    """Tokens a second, over all streams, in the time when all of them were giving tokens.

    For a single stream that is (tokens - 1) / (end - first token). Raises UnusableRoundError when
    there was no time in which each gave two tokens.
    """
    begin = max(stream.times[0] for stream in streams)
    end = min(stream.times[-1] for stream in streams)
    rate = 0.0
    for stream in streams:
        inside = [time for time in stream.times if begin <= time <= end]
        if len(inside) < 2:
            raise UnusableRoundError("the streams hardly overlapped: ask for more --tokens")
        tokens_an_event = (stream.n_tokens - 1) / (len(stream.times) - 1)
        rate += tokens_an_event * (len(inside) - 1) / (inside[-1] - inside[0])
    return rate


def whole_rate(streams: Sequence[Stream]) -> float:
    """Tokens a second from the first request to the last answer's end, prompts included."""
    seconds = max(stream.times[-1] for stream in streams) - min(stream.sent for stream in streams)
    return sum(stream.n_tokens for stream in streams) / seconds


class Turn(msgspec.Struct, frozen=True):
    """One side's part of a round: `cpu_s` are the CPU seconds of each process that took part,
    `idle_cpu` those of the side that waited and `others_cpu` those of all other programs, both in
    CPU seconds a second."""

    streams: list[Stream]
    cpu_s: dict[str, float]
    idle_cpu: float
    others_cpu: float


class Round(msgspec.Struct, frozen=True):
    """The same prompts on both sides, one after the other."""

    bare: Turn
    http: Turn

    @property
    def ratio(self) -> float:
        """Raises UnusableRoundError when streams did not overlap."""
        return steady_rate(self.http.streams) / steady_rate(self.bare.streams)

    @property
    def same_texts(self) -> int:
        """How many prompts had the same answer from both. Others differ in how their tokens were
        put into batches, so that sums were rounded otherwise."""
        pairs = zip(self.bare.streams, self.http.streams, strict=True)
        return sum(bare.text == http.text for bare, http in pairs)


class Side(msgspec.Struct, frozen=True):
    """Medians over the rounds of one side; rates in tokens/s over all streams."""

    tokens_per_s: float
    whole_tokens_per_s: float
    first_token_s: float
    prompt_tokens: float
    cached_tokens: float
    cpu_while_idle: float
    cpu_ms_per_token: dict[str, float]


class Scenario(msgspec.Struct, frozen=True):
    """What came out for one number of clients; `ratio` is the median of the rounds' ratios.

    `others_cpu` is what other programs used in the turn that they disturbed most, in cores: near 0,
    or the figures are not to be believed. `engine_log_tokens_per_s` is the median speed of a stream
    as the server's own log has it.
    """

    clients: int
    rounds: int
    tokens: int
    ratio: float
    ratio_min: float
    ratio_max: float
    ratios: list[float]
    bare: Side
    http: Side
    same_texts: int
    discarded_rounds: int
    others_cpu: float
    engine_log_tokens_per_s: float | None
    engine_python_us_per_step: float


class Report(msgspec.Struct, frozen=True):
    """Everything that a run found; its JSON is the last line of the output."""

    model: str
    model_bytes: int
    threads: int
    context_size: int
    parallel: int
    machine: Machine
    scenarios: list[Scenario]
    memory: dict[str, Memory]


def side(turns: Sequence[Turn], while_idle: Sequence[float]) -> Side:
    """The medians of one side; `while_idle` is from the other side's turns."""
    streams = [stream for turn in turns for stream in turn.streams]
    n_tokens = sum(stream.n_tokens for stream in streams)
    return Side(
        tokens_per_s=median(steady_rate(turn.streams) for turn in turns),
        whole_tokens_per_s=median(whole_rate(turn.streams) for turn in turns),
        first_token_s=median(stream.first_token_s for stream in streams),
        prompt_tokens=median(stream.prompt_tokens for stream in streams),
        cached_tokens=median(stream.cached_tokens for stream in streams),
        cpu_while_idle=median(while_idle),
        cpu_ms_per_token={
            name: 1e3 * sum(turn.cpu_s[name] for turn in turns) / n_tokens
            for name in turns[0].cpu_s
        },
    )


def table(report: Report) -> str:
    """The report for people."""
    lines = [
        f"model    {report.model}, {report.model_bytes / 1e9:.2f} GB; {report.threads} threads; "
        f"KV cache of {report.parallel} x {report.context_size} tokens",
        *machine_lines(report.machine),
    ]
    for scenario in report.scenarios:
        lines += ["", *_scenario(scenario)]
    lines += ["", *columns([("memory", "RSS", "peak RSS", "Pss"), *_memory(report.memory)])]
    return "\n".join(lines)


def _scenario(scenario: Scenario) -> list[str]:
    bare, http = scenario.bare, scenario.http
    n = scenario.clients
    rows = [
        (f"{n} client{'s' if n > 1 else ''}", "bare loop", "HTTP"),
        ("tokens/s, decoding", f"{bare.tokens_per_s:.2f}", f"{http.tokens_per_s:.2f}"),
        (
            "tokens/s, with prompts",
            f"{bare.whole_tokens_per_s:.2f}",
            f"{http.whole_tokens_per_s:.2f}",
        ),
        ("first token", f"{1e3 * bare.first_token_s:.0f} ms", f"{1e3 * http.first_token_s:.0f} ms"),
        ("prompt tokens (cached)", *(_prompt(one) for one in (bare, http))),
        ("CPU while the other runs", *(_percent(one.cpu_while_idle) for one in (bare, http))),
    ]
    for name in dict.fromkeys((*bare.cpu_ms_per_token, *http.cpu_ms_per_token)):
        cells = (_ms(one.cpu_ms_per_token.get(name)) for one in (bare, http))
        rows.append((f"CPU a token: {name}", *cells))
    log = scenario.engine_log_tokens_per_s
    notes = [
        f"HTTP / bare loop: {scenario.ratio:.3f} ({scenario.ratio_min:.3f} to "
        f"{scenario.ratio_max:.3f} over {scenario.rounds} rounds of {scenario.tokens} tokens)",
        f"same text on both sides: {scenario.same_texts} of {n * scenario.rounds} answers; "
        f"discarded rounds: {scenario.discarded_rounds}",
        f"other programs on this machine used up to {scenario.others_cpu:.2f} cores",
        f"the engine's own Python: {scenario.engine_python_us_per_step:.0f} us a step; "
        f"speed of a stream in the server's log: {'-' if log is None else f'{log:.2f} tokens/s'}",
    ]
    return [*columns(rows), *notes]


def _memory(memory: dict[str, Memory]) -> list[tuple[str, ...]]:
    return [
        (name, _gb(process.rss), _gb(process.peak_rss), _gb(process.pss))
        for name, process in memory.items()
    ]


def _prompt(one: Side) -> str:
    return f"{one.prompt_tokens:.0f} ({one.cached_tokens:.0f})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.2f} ms"


def _gb(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e9:.3f} GB"
