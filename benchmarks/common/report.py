"""What every benchmark reports: the machine, memory, medians with their range, and verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

import msgspec


class BenchmarkError(Exception):
    """The benchmark cannot go on; the message is one sentence."""


class Memory(msgspec.Struct, frozen=True):
    """Resident memory of a process in bytes: now, at its highest, and its share of what is shared.

    From /proc/PID/status (VmRSS, VmHWM) and /proc/PID/smaps_rollup (Pss).
    """

    rss: int | None
    peak_rss: int | None
    pss: int | None


class Machine(msgspec.Struct, frozen=True):
    cpu: str
    cores: int
    system: str
    python: str
    build: str


class Spread(msgspec.Struct, frozen=True):
    """A median with the range it comes from."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def spread(values: Iterable[float]) -> Spread | None:
    """None where there is no value."""
    found = list(values)
    return Spread(median(found), min(found), max(found)) if found else None


class Verdict(msgspec.Struct, frozen=True):
    """One thing that was asked for. `missed_by` is 0 where it was reached, else in its unit."""

    name: str
    at_least: bool
    asked: float
    seen: Spread
    unit: str
    reached: bool
    missed_by: float


def judge(name: str, asked: float, at_least: bool, seen: Spread, unit: str = "") -> Verdict:
    """What was asked for beside the median of what was seen."""
    short = asked - seen.median if at_least else seen.median - asked
    return Verdict(
        name=name,
        at_least=at_least,
        asked=asked,
        seen=seen,
        unit=unit,
        reached=short <= 0,
        missed_by=max(short, 0.0),
    )
