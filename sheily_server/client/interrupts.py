"""Ctrl-C for a program that goes on: it ends what is being done, and not the program."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_LOCAL_MODES = 3
"""Where termios.tcgetattr has the local modes."""


class Interrupts:
    """Raises KeyboardInterrupt for a SIGINT within `heard`, once; elsewhere a SIGINT does nothing.

    So no second Ctrl-C interrupts what tidies up after the first.
    """

    def __init__(self) -> None:
        self._armed = False

    def install(self) -> None:
        """Takes SIGINT, also where it was ignored. Has SIGTERM and SIGHUP leave by SystemExit, so
        that a line editor gives the terminal back."""
        signal.signal(signal.SIGINT, self._interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _leave)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Lets a SIGINT end the block by KeyboardInterrupt."""
        try:
            self._armed = True
            yield
        finally:
            self._armed = False

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            raise KeyboardInterrupt


@contextmanager
def keys_kept(descriptor: int) -> Iterator[None]:
    """Has a terminal keep what was typed before Ctrl-C, which it would throw away. The line editor
    may have been told of a key by then, and would wait for it, deaf to any further Ctrl-C."""
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    before = termios.tcgetattr(descriptor)
    kept = [*before]
    kept[_LOCAL_MODES] |= termios.NOFLSH
    termios.tcsetattr(descriptor, termios.TCSANOW, kept)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
