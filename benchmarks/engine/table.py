"""The engine's benchmark for people: its report as a table."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.common.report import Spread
from benchmarks.common.table import columns, machine_lines, verdict_row
from benchmarks.engine.report import NAMES, STEADY, Bounds, Comparison, FormatSummary, Report

FAR_FROM_BOUND = 0.8
"""Formats that decode at less than this share of the memory bound get a line of their own."""


def table(report: Report) -> str:
    """The report for people."""
    lines = [
        f"model    {report.model}, {report.model_bytes / 1e9:.2f} GB; {report.threads} threads; "
        f"kernel {report.kernel or 'stock'}",
        *machine_lines(report.machine),
        *(f"peer     {NAMES[name]}: {text}" for name, text in report.peers.items()),
    ]
    lines += _bounds(report.bounds)
    if report.contestants:
        lines += ["", *_contestants(report)]
    if report.comparisons:
        lines += ["", *_comparisons(report.comparisons)]
    if report.formats:
        lines += ["", *_formats(report.formats)]
    if report.verdicts:
        whom = "of other formats" if report.formats else "of the 3B shape"
        lines += ["", f"asked {whom}, seen with {report.model}: median (range) of the rounds"]
        lines += columns(verdict_row(verdict) for verdict in report.verdicts)
    return "\n".join([*lines, "", *_notes(report)])


def _notes(report: Report) -> list[str]:
    notes = [f"other programs on this machine used up to {report.others_cpu:.2f} cores"]
    if report.disturbed:
        notes.append(f"turns that they disturbed: {report.disturbed}; a quiet machine is needed")
    if report.unsteady:
        notes.append(
            f"figures between bounds that differ by more than {100 * STEADY:.0f} %: "
            f"{report.unsteady}; the machine's speed changed meanwhile"
        )
    return notes


def _bounds(bounds: Bounds) -> list[str]:
    memory = bounds.memory.median / bounds.bytes_a_token
    lines = [
        f"bound    memory: {_scaled(bounds.memory, 1e9)} GB/s read; at "
        f"{bounds.bytes_a_token / 1e9:.3f} GB a token {memory:.2f} tokens/s of decode"
    ]
    for kernel, peak in bounds.integer.items():
        lines.append(
            f"bound    integer, {kernel}: {_scaled(peak, 1e9, 0)} G multiply-adds/s; at "
            f"{bounds.multiply_adds_a_token / 1e9:.2f} G a token "
            f"{peak.median / bounds.multiply_adds_a_token:.1f} tokens/s of prefill"
        )
    if bounds.integer:
        share = bounds.prompt_multiply_adds_a_token / bounds.multiply_adds_a_token
        lines.append(
            f"         (a prompt's products are {share:.3f} of that a token: its last token alone "
            "needs the output matrix)"
        )
    return lines


def _contestants(report: Report) -> list[str]:
    header = [
        f"{report.prefill_tokens} tokens of prompt, {report.decode_tokens} decoded",
        *("prefill, tokens/s", "of integer peak", "decode, tokens/s", "of memory bound"),
        *(f"step {report.n_sequences} / 1, ms", "load, s", "RSS, GB"),
    ]
    rows = [header]
    for name, one in report.contestants.items():
        rows.append(
            [
                NAMES[name],
                _median(one.prefill, 1),
                _text(one.prefill_of_bound),
                _median(one.decode),
                _text(one.decode_of_bound),
                f"{_median(one.step_many_ms, 0)} / {_median(one.step_one_ms, 0)}",
                _median(one.load_s, 1),
                "-" if one.rss is None else f"{one.rss / 1e9:.2f}",
            ]
        )
    lines = columns(rows)
    if report.long_tokens:
        rows = [[f"behind {report.long_tokens} tokens", "decode, tokens/s", "of memory bound"]]
        for name, one in report.contestants.items():
            if one.long_decode is not None:
                rows.append(
                    [NAMES[name], _median(one.long_decode), _text(one.long_decode_of_bound)]
                )
        lines += ["", *columns(rows)]
    return lines


def _comparisons(comparisons: Sequence[Comparison]) -> list[str]:
    rows = [["times as fast", "prefill", "decode"]]
    rows += [
        [f"{NAMES[one.ours]} / {NAMES[one.peer]}", _text(one.prefill), _text(one.decode)]
        for one in comparisons
    ]
    return columns(rows)


def _formats(formats: Sequence[FormatSummary]) -> list[str]:
    rows = [
        [
            *("format", "GB a token", "decode, tokens/s", "of memory bound", "times stock"),
            *("prefill, tokens/s", "times stock"),
        ]
    ]
    far = []
    for one in formats:
        rows.append(
            [
                one.name,
                f"{one.bytes_a_token / 1e9:.3f}",
                _median(one.ours.decode),
                _text(one.ours.decode_of_bound),
                _text(one.against_stock.decode),
                _median(one.ours.prefill, 1),
                _text(one.against_stock.prefill),
            ]
        )
        share = one.ours.decode_of_bound
        if share is not None and share.median < FAR_FROM_BOUND:
            far.append(f"{one.name} decodes at {share.median:.2f} of the memory bound")
    return [*columns(rows), *far]


def _median(value: Spread | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value.median:.{digits}f}"


def _text(value: Spread | None, digits: int = 2) -> str:
    return "-" if value is None else value.text(digits)


def _scaled(value: Spread, unit: float, digits: int = 1) -> str:
    return Spread(value.median / unit, value.low / unit, value.high / unit).text(digits)
