"""Logging: one line per record, without anything that controls a terminal, written by a thread that
nobody waits for. Knows descriptors and records, but not what they are about."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import select
import sys
import threading
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

log = logging.getLogger(__name__)

FORMAT = "%(asctime)s %(levelname)s %(message)s"
CONTINUED = "  | "
"""Prefix of every line of a traceback, so that none passes for a record."""

ROOM = 1024 * 1024
"""Most bytes that may wait to be written."""

EXIT_S = 1.0
"""Seconds that the program waits at its end for the log to be written."""

STDERR = 2

LogFormat = Literal["text", "json"]

FIELDS = "sheily_fields"
"""The attribute of a record with its values by name, for logs that programs read."""

# Least level and priority of syslog, which has more of them.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7

# Control characters (C0, DEL, C1), line ends, marks that change the direction of text, and lone
# surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def escaped(text: str) -> str:
    """Escapes a text to one line that reads the same on every terminal."""
    return _UNSAFE.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    named = {9: "\\t", 10: "\\n", 13: "\\r"}
    return named.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def is_journal(fd: int = STDERR, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a descriptor is the journal's. systemd says which one that is in JOURNAL_STREAM, by
    device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Formatter(logging.Formatter):
    """Makes one line of each record, whoever logged it, and marks the lines of tracebacks.

    As `json`, each record is one object with `time` (UTC), `level`, `logger` and `message`, the
    record's fields, and `traceback`. With `priorities`, each line begins with its level as journald
    reads it (sd-daemon(3)), which removes it again.
    """

    def __init__(self, form: LogFormat = "text", *, priorities: bool = False) -> None:
        super().__init__(FORMAT)
        self._form = form
        self._priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        more = []
        if record.exc_info:
            more.append(self.formatException(record.exc_info))
        elif record.exc_text:
            more.append(record.exc_text)
        if record.stack_info:
            more.append(self.formatStack(record.stack_info))
        if self._form == "json":
            return self._marked(record.levelno, [_object(record, more)])
        record.asctime = self.formatTime(record)
        lines = [escaped(self.formatMessage(record))]
        lines += [CONTINUED + escaped(line) for text in more for line in text.split("\n")]
        return self._marked(record.levelno, lines)

    def line(self, level: int, sentence: str) -> str:
        """Returns the line of a sentence that is not logged as a record."""
        return self.format(_record(level, sentence))

    def last_words(self, sentence: str) -> str:
        """Returns the line of a sentence with which the program ends. As text it has no time, and
        the program's name."""
        if self._form == "json":
            return self.line(logging.ERROR, sentence)
        return self._marked(logging.ERROR, [f"sheily_server: {escaped(sentence)}"])

    def _marked(self, level: int, lines: list[str]) -> str:
        mark = f"<{_priority(level)}>" if self._priorities else ""
        return "\n".join(mark + line for line in lines)


def _record(level: int, sentence: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, level, "", 0, sentence, None, None)


def _object(record: logging.LogRecord, more: list[str]) -> str:
    """Encodes a record in JSON. Whatever is not ASCII is escaped, so no line controls anything."""
    time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
    found: dict[str, Any] = {
        "time": time.isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.message,
    }
    found |= getattr(record, FIELDS, {})
    if more:
        found["traceback"] = "\n".join(more)
    return json.dumps(found, default=repr)


def _priority(level: int) -> int:
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)


class Writer:
    """Writes to a descriptor in its own thread.

    `put` never waits. What does not fit or cannot be written is lost. Once writing works again, a
    line says how many lines were lost.
    """

    def __init__(
        self, fd: int = STDERR, room: int = ROOM, formatter: Formatter | None = None
    ) -> None:
        self.formatter = formatter or Formatter()
        self._fd = fd
        self._room = room
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[tuple[bytes, int]] = deque()
        """Waiting data, and how many lines each item stands for."""
        self._size = 0
        self._lost = 0
        self._failing = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, text: str, lines: int = 1) -> None:
        """Queues a text, to be written unchanged. `lines` is what it counts for if it is lost."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._closed or self._size + len(data) > self._room:
                self._lost += lines
                return
            self._note_losses()
            self._append(data, lines)
            self._changed.notify_all()

    def close(self, seconds: float = EXIT_S) -> None:
        """Accepts nothing more, and waits until all is written, for at most `seconds`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(seconds)

    def _append(self, data: bytes, lines: int) -> None:
        self._queue.append((data, lines))
        self._size += len(data)

    def _note_losses(self) -> None:
        """Queues a line about what was lost at this place. Call with the lock held."""
        if self._lost:
            lost, self._lost = self._lost, 0
            lines = "1 line of the log was" if lost == 1 else f"{lost} lines of the log were"
            sentence = f"{lines} lost here"
            self._append(f"{self.formatter.line(logging.WARNING, sentence)}\n".encode(), lost)

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
            except Exception:  # this thread must not end, and can tell nobody
                with self._changed:
                    self._failing = True
                    self._lost += 1

    def _next(self) -> tuple[bytes, int] | None:
        """Waits for the next data to write. Returns None at the end."""
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
        """Writes the data; returns whether all of it could be written."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # someone who shares the descriptor made it so
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(1000)
            except OSError:
                return False
        return True


class Drawing:
    """A file for drawings on a terminal, such as a progress bar: what is lost is not counted."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, text: str) -> int:
        self._writer.put(text, lines=0)
        return len(text)

    def flush(self) -> None:
        """Does nothing: nobody waits for the log."""


class Handler(logging.Handler):
    """Hands records to a writer as lines."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(writer.formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:
            place = f"{record.name}, line {record.lineno} of {record.pathname}"
            sentence = f"a record of {place} cannot be written: {error!r}"
            text = self._writer.formatter.line(logging.ERROR, sentence)
        self._writer.put(text + "\n")


def begin(level: str, form: LogFormat = "text", fd: int = STDERR) -> Writer:
    """Starts a writer, and sends it what any library logs or warns of and what ends a thread. Where
    the descriptor is the journal's, lines have priorities."""
    writer = Writer(fd, formatter=Formatter(form, priorities=is_journal(fd)))
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
    """Opens /dev/null on descriptors 0, 1 and 2 where they are closed. Otherwise the next socket
    would get that number, and log output would go to a client. Call this before anything is opened.
    """
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
