"""Has the compilers' process try new grammars before this process compiles them. Knows that process
and its earlier verdicts, not requests."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from ...protocol.commands import Grammar
from ...protocol.frames import Frames, ProtocolError
from .compiler import Begin, Forget, Try, Verdict
from .constraint import Vocabulary

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "sheily_server.engine.grammar.compiler")
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Keeps numpy from starting threads: a fork has none of them, and never releases their locks."""
MOST_KNOWN = 1024
"""Maximum number of verdicts that are kept."""
IDLE_S = 300.0
"""Seconds without an order after which the process ends. It takes 50 to 100 MB, and restarts within
a second or two."""
EXIT_S = 5.0

Done = Callable[["Verdict | None"], None]
"""Takes a verdict, or None when the compilers' process ended."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """Those who wait for the verdict on one grammar."""

    digest: bytes
    done: dict[int, Done]


@dataclass(eq=False, slots=True)
class _Compilers:
    """A compilers' process: its orders (None to end it) and who waits for its verdicts. `thread`
    lives as long as the process."""

    orders: queue.SimpleQueue[Try | Forget | None] = field(default_factory=queue.SimpleQueue)
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    thread: threading.Thread | None = None
    is_to_end: bool = False


class Trials:
    """Keeps a compilers' process alive from `start` on, and restarts it when a grammar needs a
    trial. One that had no order for `idle_s` ends. Thread-safe.

    Several requests for the same grammar share one trial.
    """

    def __init__(self, vocabulary: Vocabulary, most_states: int, idle_s: float = IDLE_S) -> None:
        self._begin = Begin(vocabulary, most_states)
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, Verdict] = OrderedDict()
        self._n_tries = 0
        self._compilers: _Compilers | None = None

    def start(self) -> None:
        """Starts the process in the background; returns at once."""
        with self._lock:
            self._started()

    def close(self) -> None:
        """Ends the process and waits for its end. Whoever waits gets no verdict."""
        with self._lock:
            compilers = self._compilers
            if compilers is None:
                return
            self._give_up(compilers)
            compilers.orders.put(None)
        if compilers.thread is not None:
            compilers.thread.join()

    def ask(self, id: int, grammar: Grammar, caller: str, done: Done) -> None:
        """Calls `done` with the verdict: at once if it is known, otherwise later, on another
        thread. `id` is the caller's, for `forget`."""
        digest = _digest(grammar)
        with self._lock:
            known = self._known.get(digest)
            if known is None:
                self._wait(id, digest, grammar, caller, done)
                return
            self._known.move_to_end(digest)
        done(known)

    def forget(self, id: int) -> None:
        """Withdraws the `ask` with this id."""
        with self._lock:
            compilers = self._compilers
            if compilers is None:
                return
            for number, waiting in compilers.waiting.items():
                if waiting.done.pop(id, None) is not None and not waiting.done:
                    compilers.orders.put(Forget(number))
                    del compilers.waiting[number]
                    return

    def _wait(self, id: int, digest: bytes, grammar: Grammar, caller: str, done: Done) -> None:
        compilers = self._started()
        for waiting in compilers.waiting.values():
            if waiting.digest == digest:
                waiting.done[id] = done
                return
        self._n_tries += 1
        compilers.waiting[self._n_tries] = _Waiting(digest, {id: done})
        compilers.orders.put(Try(self._n_tries, grammar, caller))

    def _started(self) -> _Compilers:
        """Returns the process; starts one if there is none."""
        if self._compilers is None:
            self._compilers = compilers = _Compilers()
            compilers.thread = threading.Thread(
                target=self._live, args=(compilers,), name="compilers", daemon=True
            )
            compilers.thread.start()
        return self._compilers

    def _give_up(self, compilers: _Compilers) -> None:
        """Records that the process is ending or has ended; the next order goes to a new one."""
        compilers.is_to_end = True
        if self._compilers is compilers:
            self._compilers = None

    def _live(self, compilers: _Compilers) -> None:
        """Runs one process from start to end."""
        try:
            reason = self._talk(compilers)
        except Exception as error:  # whatever it is, whoever waits must be told
            log.exception("the compilers' process failed")
            reason = f"{error}"
        with self._lock:
            level = logging.DEBUG if compilers.is_to_end else logging.ERROR
            self._give_up(compilers)
            waiting, compilers.waiting = compilers.waiting, {}
        log.log(level, "the compilers' process ended: %s", reason)
        for one in waiting.values():
            for done in one.done.values():
                done(None)

    def _talk(self, compilers: _Compilers) -> str:
        ours, theirs = socket.socketpair()
        frames = Frames(ours)
        try:
            with theirs:
                process = subprocess.Popen(
                    [*COMMAND, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=os.environ | ONE_THREAD,
                )
            writer = threading.Thread(
                target=self._write, args=(compilers, frames), name="orders", daemon=True
            )
            writer.start()
            reason = self._read(compilers, frames)
        finally:
            frames.close()
        compilers.orders.put(None)  # wakes the writer
        writer.join()
        if reason:
            process.kill()
        try:
            return f"{reason}exit code {process.wait(EXIT_S)}"
        except subprocess.TimeoutExpired:
            process.kill()
            return f"killed, exit code {process.wait()}"

    def _read(self, compilers: _Compilers, frames: Frames) -> str:
        """Takes verdicts until there are no more; returns what is wrong with the last one."""
        decoder = msgspec.msgpack.Decoder(Verdict)
        try:
            while (verdict := frames.receive(decoder)) is not None:
                self._take(compilers, verdict)
        except ProtocolError as error:
            return f"sent nonsense: {error}, "
        return ""

    def _take(self, compilers: _Compilers, verdict: Verdict) -> None:
        with self._lock:
            waiting = compilers.waiting.pop(verdict.id, None)
            if waiting is None:  # forgotten, or the first one, which says that it runs
                return
            if verdict.failure is None:
                self._known[waiting.digest] = verdict
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        for done in waiting.done.values():
            done(verdict)

    def _write(self, compilers: _Compilers, frames: Frames) -> None:
        """Sends orders until the process should end or is gone."""
        try:
            frames.send(self._begin)
            while True:
                try:
                    order = compilers.orders.get(timeout=self._idle_s)
                except queue.Empty:
                    if self._is_idle(compilers):
                        break
                    continue
                if order is None:
                    break
                frames.send(order)
        except OSError as error:  # it has ended; its status says why
            log.debug("the compilers' process takes no orders: %s", error)
        finally:
            frames.close()

    def _is_idle(self, compilers: _Compilers) -> bool:
        """Whether nothing is left to try. If so, this process gets no more orders."""
        with self._lock:
            idle = not compilers.waiting and compilers.orders.empty()
            if idle:
                self._give_up(compilers)
            return idle


def _digest(grammar: Grammar) -> bytes:
    """Digests all that a verdict depends on, including the grammar's places in the request."""
    parts = msgspec.msgpack.encode(grammar)
    return hashlib.blake2b(parts, digest_size=16).digest()
