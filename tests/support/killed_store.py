"""A process that uses a store and is killed at a chosen moment, and what must be there afterwards.

Run as a program, `python -m tests.support.killed_store WAY FOLDER`: it forks a process for each
moment, so it must have no threads, which pytest may have. It prints how many moments there were.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

from sheily_server.store.base import Record
from sheily_server.store.database import Database
from tests.support.records import failed, file_store, noise, record

STATUSES = ("queued", "in_progress", "completed", "incomplete", "failed", "cancelled")
SIZES = (10, 3_000, 30_000)


@dataclass(frozen=True)
class Step:
    """One call: a put of this version of a record, or a delete."""

    name: int
    version: int
    size: int = 0
    status: str = ""

    def record(self) -> Record | None:
        if not self.status:
            return None
        text = noise((self.name, self.version), self.size)
        return record(str(self.name), text, status=self.status)


def steps(seed: int, number: int) -> list[Step]:
    """Puts, replacements and deletes of a few records, the same for the same seed."""
    random = Random(seed)
    found = []
    for version in range(number):
        name = random.randrange(6)
        if random.random() < 0.25:
            found.append(Step(name, version))
        else:
            found.append(Step(name, version, random.choice(SIZES), random.choice(STATUSES)))
    return found


def _nothing(store: Database) -> None:
    pass


def use(path: Path, work: list[Step], tell: int, hook: Callable[[Database], None]) -> None:
    """Does the work, telling through a pipe that each step begins (`b`) and is done (`d`)."""
    store = file_store(path)
    hook(store)
    for step in work:
        os.write(tell, b"b")
        new = step.record()
        if new is None:
            store.delete(f"resp_{step.name}", "anna")
        else:
            store.put(new)
        os.write(tell, b"d")
    store.close()


def check(path: Path, before: dict[int, Step], work: list[Step], told: bytes) -> dict[int, Step]:
    """Opens the store as the next server would, and checks each record: the last step that was told
    as done counts, or the one that had begun. Returns what is there."""
    kept = dict(before)
    for step in work[: told.count(b"d")]:
        kept[step.name] = step
    begun = work[told.count(b"b") - 1] if told.endswith(b"b") else None
    store = file_store(path)
    for name in range(6):
        may_be = [kept[name]] if name in kept else [Step(name, -1)]
        if begun and begun.name == name:
            may_be.append(begun)
        found = store.get(f"resp_{name}", "anna")
        matching = [step for step in may_be if found == after_start(step)]
        assert matching, (name, told[-2:], found and (found.status, len(found.body)), may_be)
        kept[name] = matching[-1]
    store.close()
    left = sorted(each.name for each in path.parent.iterdir())
    assert left == [path.name], left
    return kept


def after_start(step: Step) -> Record | None:
    """What the next server has of a step."""
    new = step.record()
    return failed(new) if new and new.running else new


def in_child(
    path: Path,
    work: list[Step],
    *,
    first: Callable[[], object] = int,
    hook: Callable[[Database], None] = _nothing,
) -> tuple[int, int]:
    """Forks a process that does the work, `first` something else, and `hook` once the store is
    open. Returns its id and the pipe that it tells through."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    code = 1
    try:
        os.close(read)
        first()
        use(path, work, write, hook)
        code = 0
    finally:
        os._exit(code)


def told_until_the_end(pipe: int) -> bytes:
    with os.fdopen(pipe, "rb") as file:
        return file.read()


# --- a moment is a statement ----------------------------------------------------------------------


def at_statements(folder: Path, work: list[Step]) -> int:
    """Kills the process before each statement that SQLite runs for the work."""
    for moment in count(1):
        path = folder / f"{moment}.db"

        def hook(store: Database, moment: int = moment) -> None:
            left = moment

            def trace(sql: str) -> None:
                nonlocal left
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

            store._db.set_trace_callback(trace)

        child, pipe = in_child(path, work, hook=hook)
        told = told_until_the_end(pipe)
        ended = os.waitpid(child, 0)[1]
        _finish(path, work, told)
        if ended == 0:
            return moment - 1
        assert os.WTERMSIG(ended) == signal.SIGKILL, ended
    raise AssertionError


def _finish(path: Path, work: list[Step], told: bytes) -> None:
    check(path, {}, work, told)
    for each in path.parent.iterdir():
        each.unlink()


# --- a moment is a system call that changes a file ------------------------------------------------

TRACEME, PEEKUSER, SYSCALL, SETOPTIONS = 0, 3, 24, 0x4200
SYSGOOD, EXITKILL = 1, 0x100000
ORIG_RAX = 15 * 8
"""Where the number of the system call is (x86-64, sys/user.h)."""
CHANGES = {
    18: "pwrite64",
    74: "fsync",
    75: "fdatasync",
    77: "ftruncate",
    87: "unlink",
    91: "fchmod",
}


class Traced:
    """A child stopped before each system call that changes a file (ptrace(2))."""

    def __init__(self, pid: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.restype = ctypes.c_long
        number, place = ctypes.c_long, ctypes.c_void_p
        self._libc.ptrace.argtypes = [number, number, place, place]
        self._pid = pid
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSTOPPED(status):
            raise OSError("the process cannot be traced")
        self._ask(SETOPTIONS, 0, SYSGOOD | EXITKILL)

    def _ask(self, request: int, place: int = 0, data: int = 0) -> int:
        ctypes.set_errno(0)
        found = int(self._libc.ptrace(request, self._pid, place, data))
        if ctypes.get_errno():
            raise OSError(ctypes.get_errno(), "ptrace")
        return found

    def changes(self) -> Iterator[str]:
        """Yields the name of each such call before it is made, until the process ends by itself."""
        entering = True
        signal_for_it = 0
        while True:
            self._ask(SYSCALL, 0, signal_for_it)
            status = os.waitpid(self._pid, 0)[1]
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                assert status == 0, status
                return
            stopped = os.WSTOPSIG(status)
            signal_for_it = 0 if stopped & 0x80 else stopped
            if not stopped & 0x80:
                continue
            if entering and (name := CHANGES.get(self._ask(PEEKUSER, ORIG_RAX))):
                yield name
            entering = not entering


def _trace_me() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(TRACEME, 0, None, None):
        raise OSError(ctypes.get_errno(), "ptrace")
    os.kill(os.getpid(), signal.SIGSTOP)


def at_changes(folder: Path, work: list[Step]) -> int:
    """Kills the process before each system call that changes a file, from the making of the file
    on to the closing of the store."""
    for moment in count(1):
        path = folder / f"{moment}.db"
        child, pipe = in_child(path, work, first=_trace_me)
        ended = True
        for n, _ in enumerate(Traced(child).changes(), 1):
            if n == moment:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                ended = False
                break
        _finish(path, work, told_until_the_end(pipe))
        if ended:
            return moment - 1
    raise AssertionError


# --- a moment is drawn ----------------------------------------------------------------------------


def at_random(folder: Path, rounds: int = 50) -> int:
    """Kills, on one file, a process after each drawn number of steps, wherever it is by then."""
    random = Random(1)
    path = folder / "r.db"
    kept: dict[int, Step] = {}
    for each in range(rounds):
        work = steps(each, 200)
        child, pipe = in_child(path, work)
        told = b""
        wanted = random.randrange(1, 80)
        while told.count(b"d") < wanted:
            told += os.read(pipe, 1)
        os.kill(child, signal.SIGKILL)
        told += told_until_the_end(pipe)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        kept = check(path, kept, work, told)
    return rounds


def main(way: str, folder: Path) -> None:
    if way == "random":
        print(at_random(folder))
    elif way == "statements":
        print(at_statements(folder, steps(9, 10)))
    else:
        print(at_changes(folder, steps(9, 10)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
