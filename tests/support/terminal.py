"""A program on a terminal of its own, and somebody who types and reads there."""

from __future__ import annotations

import errno
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from tests.support.models import ROOT
from tests.support.waiting import WAIT

# Ctrl-C reaches what has the terminal for its own. SIGINT is ignored, as in the background of a
# shell: a program that wants it must say so.
_PROGRAM = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""
CTRL_C, CTRL_D = "\x03", "\x04"
PRESSED_AGAIN_S = 2.0


class Terminal:
    """Ends the program with the `with` block."""

    def __init__(self, command: Sequence[str], **variables: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "INPUTRC": os.devnull, **_plain(), **variables},
        )
        os.close(slave)
        self._seen = b""
        self._n_told = 0

    @property
    def text(self) -> str:
        """All that was on the terminal so far."""
        return self._seen.decode("utf-8", "replace")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode("utf-8", "surrogateescape"))

    def wait_for(self, words: str) -> str:
        """Waits until these words come, and returns what came since the last call up to them."""
        end = time.monotonic() + WAIT
        wanted = words.encode()
        while (place := self._seen.find(wanted, self._n_told)) < 0:
            assert time.monotonic() < end, f"no {words!r} in {self._seen!r}"
            assert self._read(end), f"the program ended without {words!r}: {self._seen!r}"
        told = self._seen[self._n_told : place + len(wanted)]
        self._n_told = place + len(wanted)
        return told.decode("utf-8", "replace")

    def interrupt(self, words: str) -> None:
        """Presses Ctrl-C at a prompt until these words come. CPython's line editor sleeps through a
        signal that comes just before it waits for a key."""
        end = time.monotonic() + WAIT
        while self._seen.find(words.encode(), self._n_told) < 0:
            assert time.monotonic() < end, f"no {words!r} in {self._seen!r}"
            self.type(CTRL_C)
            again = min(end, time.monotonic() + PRESSED_AGAIN_S)
            while self._seen.find(words.encode(), self._n_told) < 0 and time.monotonic() < again:
                assert self._read(again) or time.monotonic() >= again, f"ended: {self._seen!r}"
        self.wait_for(words)

    def ended(self) -> int:
        """The exit code, once there is one; all output is read by then."""
        end = time.monotonic() + WAIT
        while self._read(end):
            pass
        return self.process.wait(WAIT)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self, end: float) -> bool:
        """Reads more; returns whether there was more to come."""
        readable, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
        if not readable:
            return time.monotonic() < end
        try:
            data = os.read(self._master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # Linux's end of a terminal
                raise
            return False
        self._seen += data
        return bool(data)


def _plain() -> Mapping[str, str]:
    """Variables that make the client's programs forget those of whoever runs the tests."""
    return {"PYTHONPATH": str(ROOT), "NO_COLOR": "", "LLM_URL": "", "LLM_API_KEY": ""}
