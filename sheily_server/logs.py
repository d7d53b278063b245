"""The log: one line a record with nothing in it that a terminal obeys, written by a thread for
which nobody waits. Knows descriptors and records, and nothing of what they are about."""

from __future__ import annotations

import logging
import os
import re
import select
import sys
import threading
import time
from collections import deque
from types import TracebackType

log = logging.getLogger(__name__)

FORMAT = "%(asctime)s %(levelname)s %(message)s"
CONTINUED = "  | "
"""What every line of a traceback begins with, so that none of them passes for a record."""

ROOM = 1024 * 1024
"""Bytes that may wait to be written."""

EXIT_S = 1.0
"""Seconds for which the end of the program waits until the log is written."""

STDERR = 2

# Control characters (C0, DEL, C1), what ends a line, what turns the direction of a text, and halves
# of characters.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def escaped(text: str) -> str:
    """The text as one line that says the same on every terminal."""
    return _UNSAFE.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    named = {9: "\\t", 10: "\\n", 13: "\\r"}
    return named.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


class Formatter(logging.Formatter):
    """Makes a line of each record, whoever logged it, and of a traceback lines that are marked."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        more = []
        if record.exc_info:
            more.append(self.formatException(record.exc_info))
        elif record.exc_text:
            more.append(record.exc_text)
        if record.stack_info:
            more.append(self.formatStack(record.stack_info))
        lines = [escaped(self.formatMessage(record))]
        lines += [CONTINUED + escaped(line) for text in more for line in text.split("\n")]
        return "\n".join(lines)


class Writer:
    """Writes to a descriptor in a thread of its own.

    Who puts something never waits. What does not fit, or cannot be written, is lost; once there is
    a way again, a line says how many lines that were.
    """

    def __init__(self, fd: int = STDERR, room: int = ROOM) -> None:
        self._fd = fd
        self._room = room
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[tuple[bytes, int]] = deque()
        """What waits, and how many lines it stands for."""
        self._size = 0
        self._lost = 0
        self._failing = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, text: str, lines: int = 1) -> None:
        """Has the text written as it is. `lines` is what it counts when it is lost."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._closed or self._size + len(data) > self._room:
                self._lost += lines
                return
            self._note_losses()
            self._append(data, lines)
            self._changed.notify_all()

    def close(self, seconds: float = EXIT_S) -> None:
        """Takes nothing more, and waits until all is written, for so many seconds at most."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(seconds)

    def _append(self, data: bytes, lines: int) -> None:
        self._queue.append((data, lines))
        self._size += len(data)

    def _note_losses(self) -> None:
        """Puts a line on what was lost where it is missing; the lock is held."""
        if self._lost:
            lost, self._lost = self._lost, 0
            when = time.strftime("%Y-%m-%d %H:%M:%S")
            self._append(f"{when} WARNING {lost} lines of the log were lost here\n".encode(), lost)

    def _run(self) -> None:
        while True:
            try:
                found = self._next()
                if found is None:
                    return
                written = self._write(found[0])
                with self._changed:
                    self._failing = not written
                    self._lost += 0 if written else found[1]
            except Exception:  # this thread must not end, and has nobody to tell
                with self._changed:
                    self._failing = True
                    self._lost += 1

    def _next(self) -> tuple[bytes, int] | None:
        """What is to be written next, once there is something; None at the end."""
        with self._changed:
            while not self._queue:
                if not self._failing:
                    self._note_losses()
                if self._queue:
                    break
                if self._closed:
                    return None
                self._changed.wait()
            data, lines = self._queue.popleft()
            self._size -= len(data)
            return data, lines

    def _write(self, data: bytes) -> bool:
        """Whether all of it could be written."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # whoever shares the descriptor made it so
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(1000)
            except OSError:
                return False
        return True


class Drawing:
    """A file for what is drawn on a terminal, such as a progress bar: none of it is missed."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, text: str) -> int:
        self._writer.put(text, lines=0)
        return len(text)

    def flush(self) -> None:
        """Nobody waits for the log."""


class Handler(logging.Handler):
    """Hands records to a writer, as lines."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:
            place = f"{record.name}, line {record.lineno} of {record.pathname}"
            text = escaped(f"ERROR a record of {place} cannot be written: {error!r}")
        self._writer.put(text + "\n")


def begin(level: str, fd: int = STDERR) -> Writer:
    """Sends what any library logs or warns of, and what kills a thread, to a new writer."""
    writer = Writer(fd)
    logging.basicConfig(level=level.upper(), handlers=[Handler(writer)], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda found: _unexpected(
        f"an error in {found.object!r} could not be raised", found.exc_value
    )
    threading.excepthook = lambda found: _unexpected(
        f"the thread {found.thread.name if found.thread else '?'} ended by an error",
        found.exc_value,
    )
    return writer


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    _unexpected("the program ended by an error", error)


def _unexpected(what: str, error: BaseException | None) -> None:
    log.critical("%s", what, exc_info=error)


def keep_standard_descriptors() -> None:
    """Opens /dev/null on 0, 1 and 2 where they are closed: the next socket would have that number,
    and what is meant for the log would go to a client. To be called before anything is opened."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            os.set_inheritable(fd, True)
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            stream = open(fd, mode, errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
