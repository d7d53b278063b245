"""The processes that a run of the tests has started, whoever their parent is by now (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE = "SHEILY_TEST_RUN"
"""An environment variable: children inherit which run of the tests they belong to."""

_PROC = Path("/proc")
_HEAP = 64 << 20


def of(run: str) -> dict[int, str]:
    """The command lines, by process id, of those that run, apart from this one: the processes that
    have the variable, and the descendants of this one."""
    parents = _parents()
    found = {pid for pid in parents if _belongs(pid, run)}
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update(below)
        waiting += below
    return {pid: _command(pid) for pid in sorted(found - {os.getpid()})}


def hearing_interrupts(command: Sequence[str]) -> list[str]:
    """The command, as it is on a terminal: SIGINT ends it. It would ignore that where the run of
    the tests does, as one in the background of a shell."""
    program = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", program, *command]


def heaps_of_threads(pid: int) -> int:
    """How many heaps glibc has made in a process for threads beside the main one: 64 MiB each, of
    which the first part is used and the rest is nobody's."""
    heaps, before, rest = 0, (0, 0), "rw-p 00000000 00:00 0"
    for line in (_PROC / f"{pid}/maps").read_text().splitlines():
        place, _, what = line.partition(" ")
        begin, end = (int(number, 16) for number in place.split("-"))
        is_rest = what.strip() == rest.replace("rw-", "---") and before[1] == begin
        heaps += is_rest and before[0] % _HEAP == 0 and end - before[0] == _HEAP
        before = (begin, end) if what.strip() == rest else (0, 0)
    return heaps


def described(processes: Mapping[int, str]) -> str:
    return "; ".join(f"{pid} ({command})" for pid, command in processes.items())


def kill(processes: Mapping[int, str]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """Of every process that is not dead."""
    parents = {}
    for path in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(path.parent.name)] = int(parent)
    return parents


def _belongs(pid: int, run: str) -> bool:
    try:
        return f"{VARIABLE}={run}".encode() in (_PROC / f"{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # somebody else's, or gone
        return False


def _command(pid: int) -> str:
    try:
        return (_PROC / f"{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "gone"
