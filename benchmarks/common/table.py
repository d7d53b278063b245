"""The parts that the tables of all benchmarks have: the machine, columns, verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.common.report import Machine, Verdict


def machine_lines(machine: Machine) -> list[str]:
    """What the figures belong to, at the head of every report."""
    return [
        f"machine  {machine.cpu}, {machine.cores} cores; {machine.system}; Python {machine.python}",
        f"build    {machine.build}",
    ]


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with the first column on the left and the others on the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def verdict_row(verdict: Verdict) -> list[str]:
    """The cells of a line: what was asked, what was seen, and how far that is from it."""
    digits = 0 if verdict.unit else 2 if verdict.asked >= 0.1 else 3
    unit = f" {verdict.unit}" if verdict.unit else ""
    sign = ">=" if verdict.at_least else "<="
    outcome = "reached"
    if not verdict.reached:
        outcome = f"missed by {verdict.missed_by:.{max(digits, 2)}f}{unit}"
        if verdict.asked:
            outcome += f" ({100 * verdict.missed_by / verdict.asked:.0f} %)"
    return [
        verdict.name,
        f"{sign} {verdict.asked:.{digits}f}{unit}",
        verdict.seen.text(digits) + unit,
        outcome,
    ]
