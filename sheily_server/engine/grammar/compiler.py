"""The compilers' process: holds a vocabulary, and forks a process for each grammar to try. Decides
when each trial runs. Knows nothing of models, requests or the purpose of a grammar.

Only the engine runs it: `python -m sheily_server.engine.grammar.compiler FD`. Frames are those of
`protocol/`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import NoReturn

import msgspec

from ...protocol.commands import Grammar
from ...protocol.frames import Frames
from ..priority import give_way
from . import blame
from .blame import Fault
from .constraint import Grammars, Vocabulary
from .forked import (
    CPU_S,
    SEARCH_S,
    LimitError,
    TrialEndedError,
    compile_and_leave,
    end_after,
    fork,
    outcome,
    parts_to_blame,
)

AT_ONCE = 2
"""Maximum number of trials that run at the same time after exceeding QUICK_S, one per caller."""
QUICK_S = 0.05
"""CPU seconds after which a trial is no longer quick and gives way to everything else."""


class Begin(msgspec.Struct, tag=True, frozen=True):
    """The first frame: the vocabulary, and how many states a lexer may have."""

    vocabulary: Vocabulary
    most_states: int


class Try(msgspec.Struct, tag=True, frozen=True):
    """A grammar to try for a caller."""

    id: int
    grammar: Grammar
    caller: str


class Forget(msgspec.Struct, tag=True, frozen=True):
    """Says that nobody waits for the result of a Try any more."""

    id: int


class Verdict(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The result of a Try. `problem` says why the grammar cannot be honoured, `param` which part of
    the request it concerns, and `faults` which parts of its schemas, if they were found. `failure`
    says why the trial gave no result, which says nothing about the grammar. Times are in CPU
    seconds: of compiling, and of the costliest first mask."""

    id: int
    problem: str | None = None
    param: str = ""
    faults: list[Fault] = []
    compile_s: float = 0.0
    mask_s: float = 0.0
    n_bytes: int = 0
    failure: str | None = None


def _cpu_s(pid: int) -> float:
    """Returns a child's CPU seconds; 0 when it has left, which its pipe will show."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid, see clock_gettime(2)
    except OSError:
        return 0.0


@dataclass(eq=False, slots=True)
class _Trial:
    """A Try in progress. Its process, the first of its group, compiles; or, if the grammar was
    found `over` a limit, searches for the part to blame."""

    order: Try
    pid: int
    over: str | None
    slow: bool
    answer: bytearray = field(default_factory=bytearray)


class Bench:
    """Trials in progress. A quick trial runs at once, beside all others. A longer one continues at
    a lower priority if there is room: for AT_ONCE such trials, one per caller. Otherwise it is
    killed, and starts over when there is room."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._trials: dict[int, _Trial] = {}
        self._waiting: list[tuple[Try, str | None]] = []

    @property
    def pipes(self) -> list[int]:
        return list(self._trials)

    @property
    def patience_s(self) -> float | None:
        """Seconds until `look` should be called again; None while that is not needed."""
        return QUICK_S / 2 if any(not trial.slow for trial in self._trials.values()) else None

    def begin(self, order: Try) -> None:
        self._start(order, None, slow=False)

    def read(self, pipe: int) -> Verdict | None:
        """Reads from a trial's pipe; returns the verdict once it is complete."""
        trial = self._trials[pipe]
        part = os.read(pipe, 1 << 16)
        trial.answer += part
        if part:
            return None
        os.close(pipe)
        del self._trials[pipe]
        _, status = os.waitpid(trial.pid, 0)
        if trial.over is not None:
            return _refusal(trial, status)
        try:
            cost = outcome(status, bytes(trial.answer), CPU_S)
        except LimitError as error:
            self._waiting.insert(0, (trial.order, str(error)))
            return None
        except TrialEndedError as error:
            return Verdict(id=trial.order.id, failure=str(error))
        return Verdict(
            id=trial.order.id,
            problem=cost.problem,
            param=cost.faults[0].place if cost.faults else trial.order.grammar.param,
            faults=cost.faults,
            compile_s=cost.compile_s,
            mask_s=cost.mask_s,
            n_bytes=cost.n_bytes,
        )

    def look(self) -> None:
        """Demotes trials that have taken long, and starts waiting ones that have room now."""
        for pipe, trial in list(self._trials.items()):
            if trial.slow or _cpu_s(trial.pid) <= QUICK_S:
                continue
            if self._has_room(trial.order.caller):
                trial.slow = True
                give_way(trial.pid)
            else:
                self._end(pipe)
                self._waiting.append((trial.order, trial.over))
        for waiting in list(self._waiting):
            order, over = waiting
            if self._has_room(order.caller):
                self._waiting.remove(waiting)
                self._start(order, over, slow=True)

    def forget(self, id: int) -> None:
        """Ends a trial whose verdict nobody waits for."""
        self._waiting = [waiting for waiting in self._waiting if waiting[0].id != id]
        for pipe, trial in list(self._trials.items()):
            if trial.order.id == id:
                self._end(pipe)

    def end(self) -> None:
        for pipe in list(self._trials):
            self._end(pipe)

    def _has_room(self, caller: str) -> bool:
        callers = [trial.order.caller for trial in self._trials.values() if trial.slow]
        return len(callers) < AT_ONCE and caller not in callers

    def _start(self, order: Try, over: str | None, slow: bool) -> None:
        grammars = self._grammars

        def run(pipe: int) -> NoReturn:
            os.setpgid(0, 0)  # before it has children, so that they join its group
            if slow:
                give_way(os.getpid())
            if over is None:
                patterns = blame.all_patterns(order.grammar)
                compile_and_leave(grammars, order.grammar, patterns, CPU_S, pipe)
            end_after(2 * SEARCH_S)
            os.write(pipe, msgspec.msgpack.encode(parts_to_blame(grammars, order.grammar)))
            os._exit(0)

        pid, pipe = fork(run)
        with contextlib.suppress(OSError):  # it may have done so itself and left
            os.setpgid(pid, pid)
        self._trials[pipe] = _Trial(order, pid, over, slow)

    def _end(self, pipe: int) -> None:
        trial = self._trials.pop(pipe)
        with contextlib.suppress(OSError):
            os.killpg(trial.pid, signal.SIGKILL)
        os.waitpid(trial.pid, 0)
        os.close(pipe)


def _refusal(trial: _Trial, status: int) -> Verdict:
    """Returns the verdict on a grammar over a limit, with the parts to blame if they were found."""
    faults = []
    if status == 0 and trial.answer:
        faults = msgspec.msgpack.decode(bytes(trial.answer), type=list[Fault])
    keyword = faults[0].keyword if faults else ""
    return Verdict(
        id=trial.order.id,
        problem=f"{keyword or 'it'} {trial.over}",
        param=faults[0].place if faults else trial.order.grammar.param,
        faults=faults,
    )


def main(fd: int) -> None:
    """Serves the engine until it closes its end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the engine decides when this process ends
    connection = socket.socket(fileno=fd)
    frames = Frames(connection)
    begin = frames.receive(msgspec.msgpack.Decoder(Begin))
    if begin is None:
        return
    grammars = Grammars(begin.vocabulary, begin.most_states)
    del begin
    grammars.prepare()
    gc.collect()
    gc.freeze()  # else the next collection would write to every page that forks share
    frames.send(Verdict(id=0))
    _serve(frames, Bench(grammars))


def _serve(frames: Frames, bench: Bench) -> None:
    orders = msgspec.msgpack.Decoder(Try | Forget)
    while True:
        waiting = [frames.fileno(), *bench.pipes]
        ready, _, _ = select.select(waiting, [], [], bench.patience_s)
        for one in ready:
            if one != frames.fileno():
                verdict = bench.read(one)
                if verdict is not None:
                    frames.send(verdict)
        bench.look()
        if frames.fileno() in ready:
            order = frames.receive(orders)
            if order is None:
                bench.end()
                return
            if isinstance(order, Forget):
                bench.forget(order.id)
            else:
                bench.begin(order)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except ConnectionError:  # the engine is gone
        os._exit(0)
