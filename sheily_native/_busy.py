"""How much of the machine's CPUs other programs take while something is measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
NOTICEABLE = 0.1
"""Share of the CPUs from which on figures are no longer the machine's own."""


class OtherPrograms:
    """Counts from its creation until `stop`. `stat` is as /proc/stat."""

    def __init__(self, stat: Path = STAT) -> None:
        self._stat = stat
        self._began = time.monotonic()
        self._busy = _busy_s(stat)
        self._own = _own_s()
        self._share: float | None = None

    def stop(self) -> None:
        busy, seconds = _busy_s(self._stat), time.monotonic() - self._began
        if busy is not None and self._busy is not None and seconds > 0:
            others = busy - self._busy - (_own_s() - self._own)
            self._share = min(max(others / (seconds * (os.cpu_count() or 1)), 0.0), 1.0)

    def share(self) -> float | None:
        """Returns the share of all CPUs, from 0 to 1; None where the system does not tell."""
        return self._share

    def sentences(self) -> list[str]:
        """Says that the machine was busy, if it was."""
        if self._share is None or self._share < NOTICEABLE:
            return []
        return [
            f"Other programs took {self._share:.0%} of the CPUs meanwhile: this machine can do "
            "more, and the figures would differ the next time. Measure again when it does nothing "
            "else."
        ]


def _busy_s(stat: Path) -> float | None:
    """Returns the CPU seconds since boot in which a CPU was not idle; proc_stat(5) has the columns.
    Those of guests are counted in `user` already."""
    try:
        first = stat.read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, *interrupts_and_steal = map(int, first[1:9])
    except (OSError, ValueError):
        return None
    ticks = user + nice + system + sum(interrupts_and_steal)
    return ticks / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
