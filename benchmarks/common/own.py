"""What the benchmarks of one property of our server share: arguments, report, and how they end.

Knows nothing of servers, nor of what is measured.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.common.arguments import absolute_path, at_least
from benchmarks.common.machine import this_machine
from benchmarks.common.models import shape_file
from benchmarks.common.report import BenchmarkError, Machine, Spread, Verdict, judge, spread
from benchmarks.common.table import columns, machine_lines, verdict_row
from sheily_native import NativeError
from sheily_server.version import ShowVersion
from tools.make_gguf import SHAPES

_SMALL = 10
"""Figures below it are printed with three digits behind the point."""


class Findings(msgspec.Struct, frozen=True):
    """What was seen, by names that say the unit, and what of it was asked for."""

    figures: dict[str, Spread]
    verdicts: list[Verdict]
    notes: list[str] = []


class Report(msgspec.Struct, frozen=True):
    """Everything that a run found; its JSON is the last line of the output."""

    benchmark: str
    model: str
    model_bytes: int
    machine: Machine
    findings: Findings


def parser(name: str, description: str, rounds: int = 0) -> argparse.ArgumentParser:
    """The arguments that all of these have; `rounds` is the default, 0 where there are none."""
    made = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    made.add_argument("--version", action=ShowVersion)
    model = made.add_mutually_exclusive_group()
    model.add_argument(
        "--shape",
        choices=tuple(SHAPES),
        default="3b",
        help="Llama 3.2's shape with random weights, made in build/bench-models (default: 3b)",
    )
    model.add_argument("--model", type=absolute_path, metavar="FILE", help="a GGUF file instead")
    if rounds:
        made.add_argument("--rounds", type=at_least(1), default=rounds, help=f"({rounds})")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the JSON line there too")
    return made


def finish(name: str, options: argparse.Namespace, measure: Callable[[Path], Findings]) -> int:
    """Measures with the chosen model, and prints what was found; the exit status is 1 when nothing
    could be measured."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped too
    try:
        model: Path = options.model or shape_file(options.shape)
        findings = measure(model)
        report = Report(name, model.name, model.stat().st_size, this_machine(), findings)
        line = msgspec.json.encode(report).decode()
        if options.json is not None:
            options.json.write_text(line + "\n")
    except (BenchmarkError, NativeError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(report))
    print()
    print(line)
    return 0


def table(report: Report) -> str:
    """As people read it."""
    found = report.findings
    lines = [
        f"model    {report.model}, {report.model_bytes / 1e9:.2f} GB",
        *machine_lines(report.machine),
        "",
        *columns([name, _text(seen)] for name, seen in found.figures.items()),
        "",
        *columns([["asked for", "", "seen", ""], *map(verdict_row, found.verdicts)]),
        *found.notes,
    ]
    return "\n".join(lines)


def spreads(values: Mapping[str, Sequence[float]]) -> dict[str, Spread]:
    """The figures that there are values of."""
    found = {name: spread(seen) for name, seen in values.items()}
    return {name: one for name, one in found.items() if one is not None}


def asked(
    name: str, limit: float, seen: Iterable[float], *, at_least: bool = False, unit: str = ""
) -> Verdict:
    """What was asked for beside what was seen. Raises BenchmarkError where that is nothing."""
    found = spread(seen)
    if found is None:
        raise BenchmarkError(f"nothing was seen of: {name}")
    return judge(name, limit, at_least, found, unit)


def _text(seen: Spread) -> str:
    return seen.text(3 if seen.median < _SMALL else 1)
