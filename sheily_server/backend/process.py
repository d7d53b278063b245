"""One engine process from start to end: spawns it, listens to it, kills it when it hangs. Knows
frames and signals, not requests."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from ..logs import escaped
from ..protocol.channel import Channel, encode_command
from ..protocol.commands import Command
from ..protocol.events import Beat, Event
from ..protocol.frames import ProtocolError
from .outbox import Outbox

log = logging.getLogger(__name__)

EXIT_GRACE_S = 2.0
_WATCH_S = 0.1
_LOG_LEVELS = {"D": 10, "I": 20, "W": 30, "E": 40, "F": 50}

LINE_BYTES = 8192
"""Bytes kept of each line that the child writes."""

LAST_WORDS = 500
"""Characters kept of the child's last words, after escaping."""

_LEFT_BYTES = 1 << 20
"""Bytes read of the child's lines after its death, since a process it started may keep writing."""

_OWN_SIGNALS = {
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
}
"""Signals by which native code dies of its own errors; nobody sends them."""

START_ID = 0
"""The id of the first command; no request has it."""


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended. `death` completes a sentence about it. `by_itself` means that its own
    work ended it: one of `_OWN_SIGNALS` or a hang."""

    death: str
    by_itself: bool = False


class EngineProcess:
    """Runs `command` as a child, with its socket's file descriptor number as the last argument.

    The child is killed as hung when nothing came from it for `hang_s`, or when it reports that a
    step or a command has stood still that long. When it is told to end, it may take `keeping_s`
    longer than usual, as it writes what it has to a disk.
    """

    def __init__(self, command: Sequence[str], hang_s: float, keeping_s: float = 0.0) -> None:
        """Raises OSError when the child cannot be started, RuntimeError when a thread cannot."""
        self._hang_s = hang_s
        self._keeping_s = keeping_s
        self._killed = ""
        self._hung = False
        self._last_words = ""
        self._heard = time.monotonic()
        self._steady = -math.inf
        """Since when it has been heard without a long gap."""
        self._over = threading.Event()
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            self._channel = Channel(ours)
            undo.callback(self._channel.close)
            with theirs:
                self._dead, self._dies = os.pipe()
                undo.callback(os.close, self._dies)
                undo.callback(os.close, self._dead)
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
            stderr = self._process.stderr
            assert stderr is not None
            undo.callback(stderr.close)
            undo.callback(self._process.wait)
            undo.callback(self._process.kill)
            self._relay = threading.Thread(
                target=self._relay_log, args=(stderr,), name="engine-log", daemon=True
            )
            self._watch = threading.Thread(target=self._watch_it, name="engine-watch", daemon=True)
            self.outbox = Outbox(self._channel, self._kill)
            undo.callback(self.outbox.close)
            undo.callback(self._over.set)
            self._watch.start()
            self._relay.start()  # last that can fail: it closes its descriptors
            undo.pop_all()

    def run(self, start: Command, take: Callable[[Event], bool]) -> End:
        """Sends the first command and passes events to `take` until the engine closes its end (at
        the latest by dying) or `take` returns False; returns how the process ended. Also ends the
        process when `take` raises, and then raises the same."""
        nonsense = None
        try:
            self.outbox.put(START_ID, encode_command(start))
            nonsense = self._read(take)
        finally:
            code = self._end()
        death = nonsense or self._killed or _death(code)
        by_itself = not nonsense and (-code in _OWN_SIGNALS if not self._killed else self._hung)
        words = f"; its last words: {self._last_words}" if self._last_words else ""
        return End(escaped(death) + words, by_itself)

    def close(self) -> None:
        """Closes our end of the socket, which tells the engine to leave. For any thread."""
        self.outbox.close()
        self._channel.close()

    def _end(self) -> int:
        """Waits until the process and its log lines end; returns its exit code."""
        self._over.set()
        self.close()
        try:
            code = self._process.wait(EXIT_GRACE_S + self._keeping_s)
        except subprocess.TimeoutExpired:
            self._killed = self._killed or "did not leave when its socket was closed: it was killed"
            self._process.kill()
            code = self._process.wait()
        os.close(self._dies)
        self._relay.join(EXIT_GRACE_S)
        self.outbox.join(EXIT_GRACE_S)
        return code

    def _read(self, take: Callable[[Event], bool]) -> str | None:
        """Returns None, or how the engine broke the protocol."""
        while True:
            try:
                events = self._channel.receive_events()
            except ProtocolError as error:
                return f"sent nonsense: {error}"
            if events is None:
                return None
            self._hear()
            for event in events:
                if isinstance(event, Beat):
                    self._check(event)
                if not take(event):
                    return None

    def _hear(self) -> None:
        now = time.monotonic()
        if now - self._heard > self._hang_s / 2:
            self._steady = now
        self._heard = now

    def _check(self, beat: Beat) -> None:
        """Kills a child that reports a hang. Time in which the child could not run, as in a paused
        container, does not count."""
        step_s = min(beat.step_s or 0.0, time.monotonic() - self._steady)
        if step_s > self._hang_s:
            self._kill_hung(f"a step has stood still for {step_s:.1f} s", True)
        elif (beat.reading_s or 0.0) > self._hang_s:
            self._kill_hung(f"a request has been read for {beat.reading_s:.1f} s", True)

    def _watch_it(self) -> None:
        try:
            self._watch_for_silence()
        except Exception as error:
            log.exception("the engine cannot be watched")
            self._kill(f"could not be watched: {error!r}")

    def _watch_for_silence(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(_WATCH_S):
            now = time.monotonic()
            stood_still = now - looked  # this process itself
            if stood_still > 10 * _WATCH_S:
                self._heard = now
            if stood_still > self._hang_s / 2:
                self._steady = now
            looked = now
            silent = now - self._heard
            if silent > self._hang_s:
                stopped = is_stopped(self._process.pid)
                self._kill_hung(f"nothing came from it for {silent:.1f} s", not stopped)
                return

    def _kill_hung(self, reason: str, by_itself: bool) -> None:
        self._hung = by_itself
        self._kill(f"hung: {reason}")

    def _kill(self, reason: str) -> None:
        self._killed = f"{reason}, and it was killed"
        self._process.kill()

    def _relay_log(self, stderr: IO[bytes]) -> None:
        """Writes the engine's tagged lines to this process's log and keeps the last error line."""
        try:
            self._relay_all(stderr.fileno(), _Lines(self._say))
        except Exception as error:
            log.exception("the engine's lines cannot be relayed")
            self._last_words = _short(escaped(f"unknown, as they cannot be relayed: {error!r}"))
            _drain(stderr.fileno())
        finally:
            stderr.close()
            os.close(self._dead)

    def _relay_all(self, stderr: int, lines: _Lines) -> None:
        """Relays until the stream ends. After the child's death, a process that it started may
        still hold the pipe open; nobody waits for that one."""
        poll = select.poll()
        poll.register(stderr, select.POLLIN)
        poll.register(self._dead, select.POLLIN)
        left = _LEFT_BYTES
        while left > 0:
            ready = dict(poll.poll())
            if stderr not in ready:
                break
            data = os.read(stderr, LINE_BYTES)
            if not data:
                break
            if self._dead in ready:
                left -= len(data)
            try:
                lines.take(data)
            except Exception as error:  # keep reading: a full pipe would block the engine
                log.exception("the engine's lines cannot be logged")
                self._last_words = _short(escaped(f"unknown, as they cannot be logged: {error!r}"))
        lines.end()

    def _say(self, raw: bytes, n_more: int) -> None:
        line = raw.decode("utf-8", "replace").rstrip()
        tagged = line[1:2] == " " and line[:1] in _LOG_LEVELS
        level = _LOG_LEVELS[line[0]] if tagged else logging.ERROR
        text = line[2:] if tagged else line
        if n_more:
            text += f" [and {n_more} bytes more]"
        if text and level >= logging.ERROR:
            self._last_words = _short(escaped(text))
        if text:
            log.log(level, "engine: %s", text)


def _drain(fd: int) -> None:
    """Reads to the end. A pipe that nobody reads would block the engine, and a closed one would
    fail each of its writes."""
    with contextlib.suppress(OSError):
        while os.read(fd, LINE_BYTES):
            pass


class _Lines:
    """Splits a stream into lines, keeping LINE_BYTES of each. Calls `say` with each line and the
    number of bytes dropped from it."""

    def __init__(self, say: Callable[[bytes, int], None]) -> None:
        self._say = say
        self._line = bytearray()
        self._n_more = 0

    def take(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._add(part)
            self._out()
        self._add(rest)

    def end(self) -> None:
        """Emits the last line even without a newline."""
        if self._line:
            self._out()

    def _add(self, part: bytes) -> None:
        room = LINE_BYTES - len(self._line)
        self._line += part[:room]
        self._n_more += len(part[room:])

    def _out(self) -> None:
        line, n_more = bytes(self._line), self._n_more
        self._line.clear()
        self._n_more = 0
        self._say(line, n_more)


def _short(text: str) -> str:
    """Shortens a text to its beginning and its end."""
    if len(text) <= LAST_WORDS:
        return text
    half = (LAST_WORDS - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def is_stopped(pid: int) -> bool:
    """Whether somebody stopped the process with a signal or in a debugger."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False


def _death(code: int) -> str:
    if code >= 0:
        return f"left with exit code {code}"
    try:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed by signal {-code}"
