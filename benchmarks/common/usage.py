"""What a running process uses of memory and CPU, and this machine as a whole. Linux alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

from benchmarks.common.report import Memory


def memory(pid: int) -> Memory:
    """Of a running process; None for what this system does not tell."""
    status = _sizes(Path(f"/proc/{pid}/status"))
    rollup = _sizes(Path(f"/proc/{pid}/smaps_rollup"))
    return Memory(status.get("VmRSS"), status.get("VmHWM"), rollup.get("Pss"))


def cpu_s(pid: int) -> float:
    """CPU seconds that all threads of a running process have used, to 0.01 s.

    From /proc/PID/stat (proc_pid_stat(5): fields 14 and 15, after a name in parentheses).
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_cpu_s() -> float:
    """CPU seconds that this machine's cores were not idle since it started, those that a
    hypervisor gave to other machines among them. From the first line of /proc/stat (proc_stat(5)).
    """
    user, nice, system, _, _, irq, softirq, stolen, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")


def _sizes(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    found = (re.fullmatch(r"(\w+):\s+(\d+) kB", line) for line in lines)
    return {match[1]: 1024 * int(match[2]) for match in found if match}
