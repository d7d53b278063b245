"""Threads that fail in a way nobody expects: what each leaves behind is a state and a reason."""

from __future__ import annotations

import ast
import logging
import os
import queue
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from sheily_server import __main__ as program
from sheily_server.backend.supervisor import Supervisor
from sheily_server.config import Config
from sheily_server.engine import __main__ as engine
from sheily_server.engine import vitals, worker
from sheily_server.engine.admission import Admission
from sheily_server.engine.grammar.compiler import Verdict
from sheily_server.engine.grammar.constraint import Grammars, Vocabulary
from sheily_server.engine.grammar.trials import Trials
from sheily_server.engine.inbox import read_commands
from sheily_server.engine.tokenizer import UnusableModelError
from sheily_server.engine.vitals import Vitals
from sheily_server.protocol.channel import Channel
from sheily_server.protocol.commands import Command, Grammar, Tokenize
from tests.support.models import ROOT
from tests.unit.engine.test_worker import LINE, job, running

PATIENCE_S = 100
PACKAGE = ROOT / "sheily_server"

# In which file how many threads are begun, and which test has the end of each.
THREADS = {
    "__main__.py": (3, "tests/server/test_main.py; drain: here; signals: it does not end"),
    "api/jobs.py": (1, "tests/unit/api/test_jobs.py"),
    "backend/cache.py": (1, "tests/e2e/test_disk_tier.py; it ends by itself"),
    "engine/disk/reader.py": (1, "test_disk_threads.py"),
    "engine/disk/writer.py": (1, "test_disk_threads.py"),
    "backend/outbox.py": (1, "test_outbox.py"),
    "backend/process.py": (2, "test_supervisor.py"),
    "backend/supervisor.py": (1, "test_supervisor.py"),
    "client/interrupts.py": (1, "tests/server/test_terminal.py"),
    "engine/__main__.py": (3, "vitals, reader, prepare: here"),
    "engine/grammar/follower.py": (1, "test_follower.py"),
    "engine/grammar/trials.py": (
        2,
        "here; its writer closes the connection, which ends the process",
    ),
    "engine/lanes.py": (1, "test_lanes.py"),
    "engine/worker.py": (1, "test_worker.py"),
    "logs.py": (1, "test_logs.py"),
}


def test_every_thread_is_known() -> None:
    found: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("threading.Thread", "Thread"):
                place = path.relative_to(PACKAGE).as_posix()
                found[place] = found.get(place, 0) + 1
    assert found == {place: n for place, (n, _) in THREADS.items()}


class LeftError(BaseException):
    """The process would have left with this code."""


@pytest.fixture(autouse=True)
def exits(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise LeftError(code)

    monkeypatch.setattr(os, "_exit", leave)


def left_with(caught: pytest.ExceptionInfo[LeftError]) -> int:
    return int(caught.value.args[0])


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), RuntimeError("no")])
def test_an_engine_that_cannot_make_its_vocabulary_ready_leaves(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Grammars):
        def prepare(self) -> None:
            raise error

    with pytest.raises(LeftError) as caught:
        engine.prepare(Failing(Vocabulary([b"a"], [], [0], None), 100))
    assert left_with(caught) == 1
    assert "the vocabulary cannot be used for grammars" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), RuntimeError("no")])
def test_a_reader_that_fails_ends_the_engine(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class OneCommand(Channel):
        def receive_command(self) -> Command | None:
            return Tokenize(1, [], 0.0)

    class Failing(Admission):
        def __init__(self) -> None:
            pass

        def take(self, command: Any) -> None:
            raise error

    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(LeftError) as caught:
        read_commands(OneCommand(ours), Failing(), queue.SimpleQueue(), lambda: None)
    assert left_with(caught) == 1
    assert "the reader thread failed" in caplog.text


@pytest.mark.parametrize(("closed", "code"), [(False, 1), (True, 0)])
def test_beats_that_cannot_be_told_end_the_engine(
    closed: bool, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    def failing() -> int:
        raise OSError("the clock is gone")

    signs = Vitals()
    ours, theirs = socket.socketpair()
    if closed:
        theirs.close()
    else:
        signs.heartbeat = failing
    with ours, theirs, pytest.raises(LeftError) as caught:
        vitals.tell(signs, Channel(ours))
    assert left_with(caught) == code
    assert ("the engine's signs of life failed" in caplog.text) == (code == 1)


def test_a_compilers_process_that_cannot_be_started_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: Any, **__: Any) -> subprocess.Popen[bytes]:
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", failing)
    found: queue.SimpleQueue[Verdict | None] = queue.SimpleQueue()
    asking = Trials(Vocabulary([b"a"], [], [0], None), 100)
    for _ in range(2):
        asking.ask(1, Grammar("start: /a/", "schema"), "me", found.put)
        assert found.get(timeout=PATIENCE_S) is None
    assert "no more processes" in caplog.text


def test_a_file_that_cannot_be_read_any_more_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "gone.gguf"
    with pytest.raises(UnusableModelError, match=f"{missing} cannot be read: No such file"):
        engine._fingerprint(str(missing))


def test_a_drain_that_fails_ends_the_server_in_order(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(self: Supervisor, timeout: float) -> bool:
        raise RuntimeError("it cannot be waited for")

    monkeypatch.setattr(Supervisor, "drain", failing)
    with caplog.at_level(logging.INFO):
        program._drain(Config(), Supervisor(Config()), threading.Event())
    assert "waiting for them failed" in caplog.text


def test_an_index_that_fails_costs_the_drafts_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(job: object) -> None:
        raise RuntimeError("no index")

    monkeypatch.setattr(worker, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(worker, "_indexed", failing)
    with running({"Q": LINE}) as at_work:
        at_work.inbox.put(job(1, "Q", prediction=LINE))
        at_work.ended(1)
        assert at_work.text(1) == LINE
    assert "a request goes on without drafts" in caplog.text
