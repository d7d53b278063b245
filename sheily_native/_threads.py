"""How many CPUs this process may use, which is the default number of threads to compute with."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def default_threads(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Returns the number of CPUs that this process may run on, or as many as its control groups
    leave it time for, rounded up, if that is less. `proc` and `groups` are as /proc and
    /sys/fs/cgroup."""
    allowed = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    shares = [share for folder in _groups(proc, groups) if (share := _share(folder))]
    return min([allowed, *(math.ceil(share) for share in shares)])


def _groups(proc: Path, groups: Path) -> Iterator[Path]:
    """Yields the folders of this process's control groups and of all their parents: of version 2,
    and of version 1 those of the controller of CPU time."""
    for line in _words(proc / "self" / "cgroup", "\n"):
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / "cpu" if controllers else groups
        folder = root / place.strip("/")
        for one in (folder, *folder.parents):
            yield one
            if one == root:
                break


def _share(folder: Path) -> float | None:
    """Returns how many CPUs' time a group may take; None without a limit."""
    match _words(folder / "cpu.max"):
        case [quota, period]:
            pass
        case _:
            quota = "".join(_words(folder / "cpu.cfs_quota_us"))
            period = "".join(_words(folder / "cpu.cfs_period_us"))
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        return int(quota) / int(period)
    return None  # "max", or -1


def _words(path: Path, separator: str | None = None) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split(separator)
    except OSError:
        return []
