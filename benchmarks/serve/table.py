"""Servers side by side for people: the report as a table."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.common.report import Memory
from benchmarks.common.table import columns, machine_lines, verdict_row
from benchmarks.serve.report import (
    CLIENTS_8,
    COPY_HEAVY,
    FOUR_TURNS,
    LONG_BESIDE_STREAMS,
    LONG_PROMPT,
    MIXED,
    NAMES,
    NO_REPETITION,
    OURS,
    PREDICTION,
    SHARED_SYSTEM,
    SINGLE,
    Figures,
    Report,
)

TITLES = {
    SINGLE: "one client, a short prompt",
    LONG_PROMPT: "one client, a long prompt",
    FOUR_TURNS: "a conversation of four turns",
    CLIENTS_8: "8 clients at once, different prompts",
    SHARED_SYSTEM: "8 clients at once, one new system prompt",
    COPY_HEAVY: "answers that repeat a text of their prompt, one after the other",
    PREDICTION: "answers that the request predicts, one after the other",
    NO_REPETITION: "answers at temperature 1, one after the other",
    MIXED: "Poisson arrivals of short, long and many-turn visits",
    LONG_BESIDE_STREAMS: "a long prompt beside 4 streams: its first token, their gaps",
}
NOISE = 0.2
"""Cores that other programs may use before a figure is said to be disturbed."""
_HEADER = (
    *("first token p50", "p95, s", "gap p50", "p99, ms", "decode", "in all, tokens/s", "wall, s"),
    *("answers", "prompt tokens computed"),
)


def table(report: Report) -> str:
    """The report for people."""
    lines = [
        f"model    {report.model}, {report.model_bytes / 1e9:.2f} GB; {report.threads} threads; "
        f"KV cache of {report.parallel} x {report.context_size} tokens",
        *machine_lines(report.machine),
        *(f"server   {NAMES[name]}: {text}" for name, text in report.contestants.items()),
        *(f"note     {note}" for note in report.notes),
        f"figures  medians of the rounds: {len(report.rounds)}",
    ]
    for name, scenario in report.scenarios.items():
        lines += ["", *_scenario(name, scenario)]
    if report.visits_per_s is not None:
        lines.append(f"visits: {report.visits_per_s:.3g} a second for {report.minutes:g} minutes")
    lines += ["", *_memory(report.memory)]
    if report.verdicts:
        lines += ["", f"asked of the 3B shape, seen with {report.model}: median (range)"]
        lines += columns(verdict_row(verdict) for verdict in report.verdicts)
    return "\n".join([*lines, "", *_closing(report)])


def _scenario(name: str, contestants: Mapping[str, Figures]) -> list[str]:
    rows: list[tuple[str, ...]] = [("", *_HEADER)]
    rows += [(NAMES[one], *_cells(figures)) for one, figures in contestants.items()]
    lines = [f"{name}: {TITLES[name]}", *columns(rows)]
    for one, figures in contestants.items():
        if figures.turn_first_s:
            turns = " ".join(f"{seconds:.3f}" for seconds in figures.turn_first_s)
            lines.append(f"first token of each turn, {NAMES[one]}: {turns} s")
        if figures.ordinary_gap_s is not None:
            gap = 1e3 * figures.ordinary_gap_s
            where = "before and after the long prompt"
            lines.append(f"ordinary gap of the streams, {where}, {NAMES[one]}: {gap:.1f} ms")
    if name == PREDICTION and OURS in contestants:
        lines.append(_prediction(contestants[OURS]))
    return lines


def _prediction(figures: Figures) -> str:
    without = f"without prediction: {_number(figures.plain_per_s, 2)} tokens/s; "
    if figures.accepted_tokens is None:
        return without + "the server does not say how many predicted tokens it accepted"
    accepted, rejected = figures.accepted_tokens, _number(figures.rejected_tokens)
    return without + f"predicted tokens accepted: {accepted}, rejected: {rejected}"


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        f"{figures.first_p50_s:.3f}",
        f"{figures.first_p95_s:.3f}",
        _number(figures.gap_p50_s, 1, 1e3),
        _number(figures.gap_p99_s, 1, 1e3),
        _number(figures.decode_per_s, 2),
        _number(figures.tokens_per_s, 2),
        f"{figures.wall_s:.2f}",
        f"{figures.n_answers}",
        _number(figures.computed_tokens),
    )


def _memory(memory: Mapping[str, Memory]) -> list[str]:
    rows: list[tuple[str, ...]] = [("memory, GB", "RSS", "peak RSS", "Pss")]
    for name, one in memory.items():
        rows.append(
            (NAMES[name], *(_number(size, 3, 1e-9) for size in (one.rss, one.peak_rss, one.pss)))
        )
    return columns(rows)


def _closing(report: Report) -> list[str]:
    all_figures = [
        (NAMES[name], scenario, figures)
        for round_ in report.rounds
        for name, turn in round_.items()
        for scenario, figures in turn.scenarios.items()
    ]
    others = max((figures.others_cpu for _, _, figures in all_figures), default=0.0)
    lines = [f"other programs on this machine used up to {others:.2f} cores"]
    for name, scenario, figures in all_figures:
        if figures.others_cpu > NOISE:
            lines.append(f"disturbed by {figures.others_cpu:.2f} cores: {name} in {scenario}")
    short: dict[str, int] = {}
    for name, scenario, figures in all_figures:
        if figures.short_answers:
            place = f"{name} in {scenario}"
            short[place] = short.get(place, 0) + figures.short_answers
    lines += [f"answers of another length than asked, {k}: {v}" for k, v in short.items()]
    return lines


def _number(value: float | None, digits: int = 0, scale: float = 1.0) -> str:
    return "-" if value is None else f"{scale * value:.{digits}f}"
