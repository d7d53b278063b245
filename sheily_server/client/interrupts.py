"""Ctrl-C for a program that goes on: it ends what is being done, and not the program."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = {signal.SIGTERM, signal.SIGHUP} if hasattr(signal, "SIGHUP") else {signal.SIGTERM}
_LOCAL_MODES = 3
"""Where termios.tcgetattr has the local modes."""


class Interrupts:
    """Raises KeyboardInterrupt for a SIGINT within `heard`, once; elsewhere a SIGINT does nothing.

    So no second Ctrl-C interrupts what tidies up after the first.
    """

    def __init__(self) -> None:
        self._armed = False

    def install(self) -> None:
        """Takes SIGINT, also where it was ignored."""
        signal.signal(signal.SIGINT, self._interrupt)

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
def terminal(descriptor: int) -> Iterator[None]:
    """Lends a terminal to a line editor, which may sleep through a signal that comes just before it
    waits for a key.

    So the terminal keeps what was typed before Ctrl-C: the editor may have been told of it, and
    would wait for it, deaf to any further Ctrl-C. And SIGTERM and SIGHUP are taken by a thread of
    their own, which gives the terminal back and ends the program.
    """
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    before = termios.tcgetattr(descriptor)

    def give_back() -> None:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)

    kept = [*before]
    kept[_LOCAL_MODES] |= termios.NOFLSH
    termios.tcsetattr(descriptor, termios.TCSANOW, kept)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    threading.Thread(target=_leave, args=(give_back,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        give_back()


def _leave(give_back: Callable[[], None]) -> None:
    number = signal.sigwait(ENDING)
    with contextlib.suppress(Exception):  # after a SIGHUP there may be no terminal
        give_back()
    os._exit(128 + number)
