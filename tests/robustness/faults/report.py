"""How often a fault is tried, and the figures that come of it: a line of JSON for each scenario,
and a table of them with `python -m tests.robustness.faults.report`.

Few times in `make test`, where a figure is noted and decides nothing, as machines are busy; the
full amounts in `make torture`, which sets SHEILY_TORTURE, and where a figure over its limit is a
failure.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from sheily_native.cpu import current_cpu
from tests.support.models import ROOT

TORTURE = bool(os.environ.get("SHEILY_TORTURE"))
REPORT = ROOT / "build" / "faults" / "report.jsonl"


def amount(short: int, full: int) -> int:
    """How often: in the tests, or when it is to hurt."""
    return full if TORTURE else short


def note(scenario: str, times: int, limit: str, **figures: Any) -> None:
    """Writes down what a scenario has shown, in a line of its own; `limit` says what must hold."""
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
    line = {
        "scenario": scenario,
        "times": times,
        "torture": TORTURE,
        "limit": limit,
        "date": time.strftime("%Y-%m-%d"),
        "cpu": current_cpu().model,
        "cpus": len(os.sched_getaffinity(0)),
        **rounded,
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    with REPORT.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def decide(held: bool, what: str) -> None:
    """A limit on time: broken, it fails the full amount, and is a note otherwise."""
    assert held or not TORTURE, what


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


_COMMON = ("scenario", "times", "torture", "limit", "date", "cpu", "cpus")


def table(lines: Sequence[dict[str, Any]]) -> str:
    """In Markdown, as docs/reliability.md has it."""
    rows = ["| scenario | times | seen | limit |", "|---|---|---|---|"]
    for line in lines:
        seen = ", ".join(f"{key} {value}" for key, value in line.items() if key not in _COMMON)
        times = str(line["times"]) + ("" if line["torture"] else " (short)")
        rows.append(f"| {line['scenario']} | {times} | {seen} | {line['limit']} |")
    return "\n".join(rows)


def main() -> int:
    if not REPORT.exists():
        print(f"nothing is written down in {REPORT}", file=sys.stderr)
        return 1
    lines = [json.loads(line) for line in REPORT.read_text(encoding="utf-8").splitlines()]
    print(table(lines))
    print(
        f"\n{lines[-1]['date']}, {lines[-1]['cpu']}, {lines[-1]['cpus']} CPUs, {platform.system()}"
    )
    print(json.dumps(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
