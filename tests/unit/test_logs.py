"""The log: what a record becomes, and a log that nobody reads."""

from __future__ import annotations

import datetime
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sheily_server import logs
from tests.support.models import ROOT

WAIT = 100.0
HOSTILE = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0xD800)]


def formatted(
    log: Callable[[logging.Logger], None],
    name: str = "any",
    formatter: logs.Formatter | None = None,
) -> list[str]:
    """What a logger's records become."""
    logger = logging.Logger(name)
    found = []
    handler = logging.Handler()
    form = formatter or logs.Formatter()
    handler.emit = lambda record: found.append(form.format(record))  # type: ignore[method-assign]
    logger.addHandler(handler)
    log(logger)
    return found


@pytest.mark.parametrize("name", ["sheily_server", "waitress", "werkzeug"])
def test_a_record_is_one_line_whoever_logged_it(name: str) -> None:
    path = "/x\n2026-01-01 00:00:00,000 CRITICAL forged"
    for character in HOSTILE:
        (line,) = formatted(lambda logger, c=character: logger.info(f"serving {path}{c}"), name)  # type: ignore[misc]
        assert character not in line
        assert "\\n2026-01-01" in line
        assert len(line.splitlines()) == 1
        line.encode()


def test_what_is_harmless_stays() -> None:
    assert logs.escaped("¿Qué? 你好 👋🏽 a\\b") == "¿Qué? 你好 👋🏽 a\\b"
    assert logs.escaped("\x1b[2J\r\n\t\x9b\u2028\ud800") == r"\x1b[2J\r\n\t\x9b\u2028\ud800"


def test_no_line_of_a_traceback_passes_for_a_record() -> None:
    def fail(logger: logging.Logger) -> None:
        try:
            raise ValueError("bad\n2026-01-01 00:00:00,000 INFO forged\x1b[2J\rforged\u2028forged")
        except ValueError:
            logger.exception("failed")

    (text,) = formatted(fail)
    first, *more = text.splitlines()
    assert first.endswith(" ERROR failed")
    assert len(more) > 3
    assert all(line.startswith("  | ") for line in more)
    assert "\x1b" not in text


LEVELS = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("level", LEVELS)
def test_for_the_journal_each_line_begins_with_its_priority(
    level: int, form: logs.LogFormat
) -> None:
    formatter = logs.Formatter(form, priorities=True)

    def fail(logger: logging.Logger) -> None:
        try:
            raise ValueError("bad\nworse")
        except ValueError:
            logger.log(level, "failed", exc_info=True)

    (text,) = formatted(fail, formatter=formatter)
    (plain,) = formatted(fail, formatter=logs.Formatter(form))
    lines = text.split("\n")
    assert len(lines) == len(plain.split("\n")) == (1 if form == "json" else len(lines))
    assert all(line.startswith(f"<{LEVELS[level]}>") for line in lines)
    assert not any(line.startswith("<") for line in plain.split("\n"))
    assert formatter.line(level, "a sentence").startswith(f"<{LEVELS[level]}>")
    assert formatter.last_words("it ends").startswith("<3>")


def test_a_record_as_json() -> None:
    formatter = logs.Formatter("json")

    def fail(logger: logging.Logger) -> None:
        try:
            raise ValueError("bad\nworse\x1b[2J")
        except ValueError:
            logger.exception("failed: %s", "¿por qué?\u2028", extra={logs.FIELDS: {"status": 500}})

    (line,) = formatted(fail, "a.name", formatter)
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    time = datetime.datetime.fromisoformat(found.pop("time"))
    assert time.utcoffset() == datetime.timedelta(0)
    assert found.pop("traceback").endswith("ValueError: bad\nworse\x1b[2J")
    assert found == {
        "level": "error",
        "logger": "a.name",
        "message": "failed: ¿por qué?\u2028",
        "status": 500,
    }
    assert json.loads(formatter.last_words("it ends"))["message"] == "it ends"


@pytest.mark.parametrize("character", HOSTILE)
def test_json_is_one_line_whatever_is_logged(character: str) -> None:
    (line,) = formatted(lambda logger: logger.info(character), formatter=logs.Formatter("json"))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == character


def test_the_journal_is_known_by_its_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file, (tmp_path / "other").open("w") as other:
        found = os.fstat(file.fileno())
        environment = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert logs.is_journal(file.fileno(), environment)
        assert not logs.is_journal(other.fileno(), environment)
        assert not logs.is_journal(file.fileno(), {})
        assert not logs.is_journal(file.fileno(), {"JOURNAL_STREAM": "x"})
    assert not logs.is_journal(2**31 - 1, environment)


def test_what_was_lost_is_said_in_the_form_of_the_log() -> None:
    with piped() as pipe:
        pipe.fill()
        formatter = logs.Formatter("json", priorities=True)
        writer = logs.Writer(pipe.writer, room=10, formatter=formatter)
        writer.put("too long for it\n")
        lines = pipe.lines()
        writer.put("short\n")
        mark, _, text = next(lines).partition(">")
        assert mark == "<4"
        assert json.loads(text)["message"] == "1 line of the log was lost here"
        writer.close(WAIT)


class Pipe:
    """A pipe that is written to; reading begins when a test says so."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self._open = [self.reader, self.writer]

    def fill(self) -> None:
        """Until there is no room in it."""
        os.set_blocking(self.writer, False)
        try:
            while True:
                os.write(self.writer, b"." * 4096)
        except BlockingIOError:
            os.set_blocking(self.writer, True)

    def close(self, fd: int) -> None:
        self._open.remove(fd)
        os.close(fd)

    def close_all(self) -> None:
        for fd in list(self._open):
            self.close(fd)

    def lines(self) -> Iterator[str]:
        """Reads, as a thread of its own would."""
        with io.open(os.dup(self.reader), encoding="utf-8") as file:  # noqa: UP020
            for line in file:
                yield line.rstrip("\n").lstrip(".")


@contextmanager
def piped() -> Iterator[Pipe]:
    pipe = Pipe()
    try:
        yield pipe
    finally:
        pipe.close_all()


def test_a_log_that_nobody_reads_stops_nobody() -> None:
    """And says what is missing, where it is missing, once somebody does."""
    with piped() as pipe:
        pipe.fill()
        writer = logs.Writer(pipe.writer, room=1000)
        done = threading.Event()

        def put_all() -> None:
            for i in range(1000):
                writer.put(f"line {i:04}\n")
            done.set()

        threading.Thread(target=put_all, daemon=True).start()
        assert done.wait(WAIT)
        lines = pipe.lines()
        found: list[str] = []
        while not (found and "lost" in found[-1]):
            found.append(next(lines))
        *kept, notice = found
        assert kept == [f"line {i:04}" for i in range(len(kept))]
        assert notice.endswith(f" WARNING {1000 - len(kept)} lines of the log were lost here")
        writer.put("and on\n")
        assert next(lines) == "and on"
        writer.close(WAIT)


def test_the_end_of_the_program_does_not_wait_for_a_reader_that_never_comes() -> None:
    with piped() as pipe:
        pipe.fill()
        writer = logs.Writer(pipe.writer)
        writer.put("never read\n")
        writer.close(0.01)
        assert writer._thread.is_alive()
        assert "never read" in pipe.lines()
        writer._thread.join(WAIT)
        assert not writer._thread.is_alive()


def test_the_end_of_the_program_waits_until_all_is_written() -> None:
    with piped() as pipe:
        writer = logs.Writer(pipe.writer)
        for i in range(100):
            writer.put(f"line {i}\n")
        writer.close(WAIT)
        pipe.close(pipe.writer)
        assert list(pipe.lines()) == [f"line {i}" for i in range(100)]


def test_a_pipe_that_breaks(tmp_path: Path) -> None:
    with piped() as pipe:
        writer = logs.Writer(pipe.writer)
        pipe.close(pipe.reader)
        for i in range(10):
            writer.put(f"lost {i}\n")
        file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
        while writer._lost < 10:  # the last one may still be in the thread's hands
            pass
        os.dup2(file, pipe.writer)
        os.close(file)
        writer.put("written\n")
        writer.close(WAIT)
        notice, line = (tmp_path / "log").read_text().splitlines()
        assert notice.endswith(" 10 lines of the log were lost here")
        assert line == "written"


def test_a_descriptor_that_does_not_block() -> None:
    """As whoever shares it may have made it: nothing is lost for that."""
    with piped() as pipe:
        pipe.fill()
        os.set_blocking(pipe.writer, False)
        writer = logs.Writer(pipe.writer)
        writer.put("first\n")
        lines = pipe.lines()
        assert next(lines) == "first"
        writer.close(WAIT)


def test_a_bar_on_a_terminal_that_is_stopped_stops_nobody() -> None:
    from sheily_server.__main__ import LoadBar

    with piped() as pipe:
        pipe.fill()
        writer = logs.Writer(pipe.writer, room=2000)
        done = threading.Event()

        def load() -> None:
            for _ in range(20):
                bar = LoadBar(writer)
                for i in range(101):
                    bar(i / 100)
            done.set()

        threading.Thread(target=load, daemon=True).start()
        assert done.wait(WAIT)
        writer.close(0.0)
        os.set_blocking(pipe.reader, False)
        while writer._thread.is_alive():
            with suppress(BlockingIOError):
                os.read(pipe.reader, 65536)


def test_a_record_that_cannot_be_formatted() -> None:
    with piped() as pipe:
        writer = logs.Writer(pipe.writer)
        logger = logging.Logger("any")
        logger.addHandler(logs.Handler(writer))
        logger.info("%d", "no number")
        writer.close(WAIT)
        pipe.close(pipe.writer)
        lines = list(pipe.lines())
        assert len(lines) == 1, lines
        assert "cannot be written: TypeError" in lines[0]


def program(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT, check=False
    )


def test_whatever_ends_a_thread_and_every_warning_is_logged() -> None:
    done = program(
        "import threading, warnings\n"
        "from sheily_server import logs\n"
        "writer = logs.begin('info')\n"
        "def fail(): raise ValueError('why')\n"
        "thread = threading.Thread(target=fail, name='one'); thread.start(); thread.join()\n"
        "class Bad:\n"
        "    def __del__(self): raise ValueError('in vain')\n"
        "bad = Bad()\n"
        "del bad\n"
        "warnings.warn('beware\\x1b')\n"
        "writer.close()\n"
    )
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert "CRITICAL the thread one ended by an error" in lines[0]
    assert "  | ValueError: why" in lines
    assert "  | ValueError: in vain" in lines
    assert "UserWarning: beware\\x1b" in done.stderr
    assert all(line.startswith(("  | ", "20")) for line in lines)


def test_standard_descriptors_that_are_closed() -> None:
    """The next that is opened has none of their numbers."""
    script = (
        "import os, socket, sys\n"
        "from sheily_server import logs\n"
        "logs.keep_standard_descriptors()\n"
        "assert socket.socket().fileno() > 2\n"
        "assert [os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)] == ['/dev/null'] * 3\n"
        "print('to nobody'); print('to nobody', file=sys.stderr)\n"
        "assert sys.stdin.read() == ''\n"
        "os._exit(7)\n"
    )
    command = f'exec "{sys.executable}" -c "$0" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, script], cwd=ROOT, timeout=WAIT, check=False)
    assert done.returncode == 7
