"""One engine process from its start to its end: spawned, listened to, killed when it hangs; knows
frames and signals, nothing of requests."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from .engine.messages import Beat, Channel, Command, Event, ProtocolError

log = logging.getLogger(__name__)

EXIT_GRACE_S = 2.0
_WATCH_S = 0.1
_LOG_LEVELS = {"D": 10, "I": 20, "W": 30, "E": 40, "F": 50}


class EngineProcess:
    """`command` with the number of its socket's file descriptor behind it, as a child.

    It hangs when nothing came from it for `hang_s`, or when it says that a step or a command has
    stood still for so long: then it is killed.
    """

    def __init__(self, command: Sequence[str], hang_s: float) -> None:
        """Raises OSError when it cannot be started."""
        self._hang_s = hang_s
        self._hung = ""
        self._last_words = ""
        self._heard = time.monotonic()
        self._over = threading.Event()
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
        except OSError:
            self.channel.close()
            raise
        assert self._process.stderr is not None
        self._relay = threading.Thread(
            target=self._relay_log, args=(self._process.stderr,), name="engine-log", daemon=True
        )
        self._watch = threading.Thread(target=self._watch_it, name="engine-watch", daemon=True)
        self._relay.start()
        self._watch.start()

    def run(self, start: Command, take: Callable[[Event], bool]) -> str:
        """Sends the first command and hands on what comes, until the engine closes its end, which
        it does by dying at the latest, or `take` wants no more; how it ended, as the rest of a
        sentence about it."""
        with contextlib.suppress(OSError):  # it is dead already, which reading will find
            self.channel.send_command(start)
        nonsense = self._read(take)
        self._over.set()
        self.channel.close()  # which is the engine's sign to leave, if it has not
        try:
            code = self._process.wait(EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._relay.join(EXIT_GRACE_S)
        end = self._hung or nonsense or _death(code)
        return f"{end}; its last words: {self._last_words}" if self._last_words else end

    def _read(self, take: Callable[[Event], bool]) -> str | None:
        """None, or how the engine broke the protocol."""
        while True:
            try:
                events = self.channel.receive_events()
            except ProtocolError as error:
                return f"sent nonsense: {error}"
            if events is None:
                return None
            self._heard = time.monotonic()
            for event in events:
                if isinstance(event, Beat):
                    self._check(event)
                if not take(event):
                    return None

    def _check(self, beat: Beat) -> None:
        if (beat.step_s or 0.0) > self._hang_s:
            self._kill(f"hung: a step has stood still for {beat.step_s:.1f} s")
        elif (beat.reading_s or 0.0) > self._hang_s:
            self._kill(f"hung: a request has been read for {beat.reading_s:.1f} s")

    def _watch_it(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(_WATCH_S):
            now = time.monotonic()
            if now - looked > 10 * _WATCH_S:  # this process itself stood still
                self._heard = now
            looked = now
            silent = now - self._heard
            if silent > self._hang_s:
                self._kill(f"hung: nothing came from it for {silent:.1f} s")
                return

    def _kill(self, reason: str) -> None:
        self._hung = f"{reason}, and it was killed"
        self._process.kill()

    def _relay_log(self, stderr: IO[bytes]) -> None:
        """Writes the engine's tagged lines to this process's log, and keeps the last bad one."""
        for raw in stderr:
            line = raw.decode("utf-8", "replace").rstrip()
            tagged = line[1:2] == " " and line[:1] in _LOG_LEVELS
            level = _LOG_LEVELS[line[0]] if tagged else logging.ERROR
            text = line[2:] if tagged else line
            if level >= logging.ERROR:
                self._last_words = text
            if text:
                log.log(level, "engine: %s", text)
        stderr.close()


def _death(code: int) -> str:
    if code >= 0:
        return f"left with exit code {code}"
    try:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed by signal {-code}"
