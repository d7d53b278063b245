"""The engine process from the parent's side: loading, tickets, crashes, restarts, the end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import pytest

from sheily_server.backend import deaths, preflight
from sheily_server.backend import process as engine_process
from sheily_server.backend import supervisor as supervisor_module
from sheily_server.backend.process import EngineProcess
from sheily_server.backend.supervisor import Supervisor
from sheily_server.backend.tickets import Ticket
from sheily_server.config import Config
from sheily_server.errors import ServiceError
from sheily_server.protocol.channel import Channel
from sheily_server.protocol.commands import Detokenize, Sampling, Segment, Tokenize
from sheily_server.protocol.events import (
    Admitted,
    ChoiceFinished,
    Detokenized,
    Event,
    Finished,
    Refused,
    Text,
    Tokenized,
    TooLong,
)
from sheily_server.protocol.frames import MAX_FRAME_BYTES
from sheily_server.shell import to_a_model
from sheily_server.web.errors import kind
from tests.support.models import EMPTY_GGUF
from tests.support.supervising import (
    Bench,
    alive,
    error_of,
    events,
    in_flight,
    refused,
    request,
    wait_for,
    wait_for_restart,
)
from tests.support.waiting import WAIT, until

CULPRIT = "request_crashes_engine"


def test_the_model_loads_and_a_request_is_answered(bench: Bench) -> None:
    supervisor = bench.start("--gate", str(bench.gate), threads=3)
    until(lambda: supervisor.health().progress == 0.25)
    health = supervisor.health()
    assert (health.state, health.reason, health.engine) == ("loading", None, None)
    error = refused(supervisor)
    assert (kind(error).status, error.code, error.retry) == (503, "loading", True)
    assert "25 %" in error.message
    assert error.retry_after
    bench.gate.touch()
    wait_for(supervisor, "ready")
    health = supervisor.health()
    assert (health.reason, health.progress, health.restarts) == (None, None, 0)
    assert health.engine is not None
    assert health.engine.n_threads == 3
    assert bench.loads == [0.25, 1.0]
    assert supervisor.engine().prompt_format.name == "chatml"
    found = events(supervisor.submit(request("one two")))
    assert [type(event) for event in found] == [Admitted, Text, Text, ChoiceFinished, Finished]


def test_the_engine_is_told_the_settings(bench: Bench) -> None:
    supervisor = bench.ready(threads=7, log_level="warning")
    start = json.loads(bench.logged("start ")[0].split(maxsplit=2)[2])
    assert start == {
        "type": "Start",
        "model_path": str(bench.model),
        "context_size": 128,
        "parallel": 2,
        "kv_tokens": 256,
        "threads": 7,
        "log_level": "warning",
        "chunk": 128,
        "kernel": "auto",
        "kv_type": "f16",
        "tuned": None,
        "speculation": True,
        "stream_slowdown": 2.0,
        "cache_dir": "",
        "cache_gb": 8.0,
    }
    (shown,) = [
        event.text
        for event in events(supervisor.submit(request("show", max_tokens=5, stop=["X"])))
        if isinstance(event, Text)
    ]
    submit = json.loads(shown)
    assert (submit["max_tokens"], submit["room"]) == (5, 1)
    assert (submit["stop"], submit["deadline"]) == (["X"], 100.0)


def test_each_ticket_gets_its_own_events(bench: Bench) -> None:
    supervisor = bench.ready(queue=20)
    tickets = [supervisor.submit(request(f"this is number {i}")) for i in range(10)]
    texts = ["".join(e.text for e in events(t) if isinstance(e, Text)) for t in tickets]
    assert texts == [f"this is number {i}" for i in range(10)]
    assert in_flight(supervisor) == 0


def test_too_long_ends_a_request(bench: Bench) -> None:
    supervisor = bench.ready()
    found = events(supervisor.submit(request("too-long 200 5")))
    assert found == [TooLong(id=1, prompt_tokens=200, room=5)]
    assert in_flight(supervisor) == 0


def test_a_refusal_ends_a_request(bench: Bench) -> None:
    supervisor = bench.ready()
    found = events(supervisor.submit(request("refuse logit_bias no such token")))
    assert found == [Refused(1, "logit_bias", "no such token")]
    assert in_flight(supervisor) == 0


def test_tokens_are_asked_for_and_answered_once(bench: Bench) -> None:
    supervisor = bench.ready()
    segments = [Segment("<|im_end|>", True), Segment("hi", False)]
    found = events(supervisor.submit(Tokenize(0, segments)))
    assert found == [Tokenized(1, [266, 104, 105], [b"<|im_end|>", b"h", b"i"])]
    assert events(supervisor.submit(Detokenize(0, [104, 105]))) == [Detokenized(2, "hi")]
    assert in_flight(supervisor) == 0


def test_every_choice_has_its_own_events(bench: Bench) -> None:
    supervisor = bench.ready()
    found = events(supervisor.submit(request("each", n=2)))
    said = [(e.choice, e.text) for e in found if isinstance(e, Text)]
    assert said == [(1, "answer"), (1, " 1"), (0, "answer"), (0, " 0")]
    assert [e.choice for e in found if isinstance(e, ChoiceFinished)] == [1, 0]
    assert isinstance(found[-1], Finished)


def test_the_queue_is_bounded(bench: Bench) -> None:
    supervisor = bench.ready(parallel=2, queue=1)
    tickets = [supervisor.submit(request(order)) for order in ("hang", "hang", "wait")]
    until(lambda: supervisor.health().running == 2)
    with pytest.raises(ServiceError) as caught:
        supervisor.submit(request("hi"))
    error = caught.value
    assert (kind(error).status, error.code) == (429, "queue_full")
    assert "running: 2, waiting: 1" in error.message
    assert error.retry_after
    assert 1 <= error.retry_after <= 60
    tickets[0].cancel()
    assert events(supervisor.submit(request("hi")))


def test_the_queue_is_never_longer_than_configured_whoever_comes_at_once(bench: Bench) -> None:
    supervisor = bench.ready(parallel=2, queue=3)
    outcomes: list[str] = []
    together = threading.Barrier(20)

    def ask() -> None:
        together.wait(WAIT)
        try:
            supervisor.submit(request("hang"))
            outcomes.append("taken")
        except ServiceError as error:
            outcomes.append(error.code or "")

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(outcomes) == ["queue_full"] * 15 + ["taken"] * 5


def test_cancelling_reaches_the_engine_once(bench: Bench) -> None:
    supervisor = bench.ready()
    ticket = supervisor.submit(request("slow 1000000 0.001"))
    until(lambda: isinstance(ticket.next(0.01), Text))
    ticket.cancel()
    ticket.cancel()
    assert in_flight(supervisor) == 0
    bench.logged(f"cancel {ticket.id}")
    after = supervisor.submit(request("hi"))
    events(after)
    after.cancel()  # it has ended: nothing is sent
    events(supervisor.submit(request("hi")))
    assert [line for line in bench.lines() if line.startswith("cancel")] == [f"cancel {ticket.id}"]


def test_a_missing_model_is_named_with_its_path(bench: Bench) -> None:
    bench.model.unlink()
    supervisor = bench.start()
    wait_for(supervisor, "failed")
    health = supervisor.health()
    assert health.reason is not None
    assert str(bench.model) in health.reason
    assert "does not exist" in health.reason
    error = refused(supervisor)
    assert (kind(error).status, error.code, error.retry) == (500, "model_unavailable", False)
    assert str(bench.model) in error.message
    assert bench.lines() == []  # no engine was started


@pytest.mark.parametrize(
    ("path", "words"),
    [("/", "is not a file"), ("/dev/null", "is not a file"), ("/" + "x" * 300, "cannot be read")],
)
def test_paths_that_are_no_file(bench: Bench, path: str, words: str) -> None:
    supervisor = bench.start(model_path=Path(path))
    wait_for(supervisor, "failed")
    assert words in (supervisor.health().reason or "")
    assert kind(refused(supervisor)).status == 500


def test_a_model_below_a_file_does_not_exist(bench: Bench) -> None:
    supervisor = bench.start(model_path=bench.model / "m.gguf")
    wait_for(supervisor, "failed")
    assert "does not exist" in (supervisor.health().reason or "")


def test_a_model_that_cannot_be_loaded_is_not_tried_again(bench: Bench) -> None:
    supervisor = bench.start("--load", "fail")
    wait_for(supervisor, "failed")
    assert supervisor.health().reason == "the file has no chat template that is known"
    assert refused(supervisor).message == supervisor.health().reason
    bench.logged("eof")  # the engine is not kept
    assert len(bench.pids()) == 1
    assert supervisor.health().restarts == 0


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("crash", "killed by signal 11 (SIGSEGV)"),
        ("exit", "left with exit code 3; its last words: GGML_ASSERT(false) failed"),
    ],
)
def test_an_engine_that_dies_while_loading_is_given_up_after_five_times(
    bench: Bench, way: str, reason: str
) -> None:
    supervisor = bench.start("--load", way)
    wait_for(supervisor, "failed")
    text = supervisor.health().reason or ""
    assert text.startswith("The engine stopped 5 times in a row")
    assert reason in text
    assert len(bench.pids()) == 5
    error = refused(supervisor)
    assert (kind(error).status, error.retry) == (500, False)


def test_an_engine_that_cannot_be_started(bench: Bench) -> None:
    supervisor = bench.start_command(["/nowhere/python"])
    wait_for(supervisor, "failed")
    assert "could not be started" in (supervisor.health().reason or "")


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("crash", "killed by signal 9 (SIGKILL)"),
        ("crash-early", "killed by signal 9 (SIGKILL)"),
        ("exit 7 the last words", "left with exit code 7; its last words: the last words"),
        ("nonsense", "sent nonsense"),
        ("close", "left with exit code 0"),
    ],
)
def test_a_crash_fails_what_was_in_flight_and_the_engine_comes_back(
    bench: Bench, order: str, reason: str
) -> None:
    supervisor = bench.ready()
    bystander = supervisor.submit(request("hang"))
    culprit = supervisor.submit(request(order))
    for ticket in (culprit, bystander):
        error = error_of(ticket)
        assert (kind(error).status, error.code) == (503, "engine_crashed")
        assert reason in error.message
        assert error.retry_after
    wait_for(supervisor, "ready")
    health = supervisor.health()
    assert (health.restarts, health.running, health.reason) == (1, 0, None)
    assert isinstance(events(supervisor.submit(request("hi")))[-1], Finished)
    until(lambda: not alive(bench.pids()[0]))


def test_while_it_restarts_requests_are_put_off(bench: Bench) -> None:
    supervisor = bench.start("--gate", str(bench.gate))
    bench.gate.touch()
    wait_for(supervisor, "ready")
    bench.gate.unlink()
    error_of(supervisor.submit(request("crash")))
    until(lambda: supervisor.health().progress == 0.25)
    health = supervisor.health()
    assert health.state == "restarting"
    assert "SIGKILL" in (health.reason or "")
    error = refused(supervisor)
    assert (kind(error).status, error.code, error.retry) == (503, "restarting", True)
    bench.gate.touch()
    wait_for(supervisor, "ready")


def test_an_answer_between_crashes_begins_the_count_anew(bench: Bench) -> None:
    supervisor = bench.ready()
    for i in range(7):
        error_of(supervisor.submit(request("crash")))
        wait_for_restart(supervisor, i + 1)
        events(supervisor.submit(request("hi")))
    assert supervisor.health().restarts == 7


def test_five_crashes_with_no_answer_between_are_the_end(bench: Bench) -> None:
    supervisor = bench.ready()
    for i in range(4):
        error_of(supervisor.submit(request("crash")))
        wait_for_restart(supervisor, i + 1)
    error_of(supervisor.submit(request("crash")))
    wait_for(supervisor, "failed")
    assert "5 times in a row" in (supervisor.health().reason or "")


def test_a_model_that_vanished_is_noticed_at_the_restart(bench: Bench) -> None:
    supervisor = bench.ready()
    bench.model.unlink()
    error_of(supervisor.submit(request("crash")))
    wait_for(supervisor, "failed")
    assert "does not exist" in (supervisor.health().reason or "")


def test_stopping_ends_the_engine_and_the_requests(bench: Bench) -> None:
    supervisor = bench.ready()
    ticket = supervisor.submit(request("hang"))
    (pid,) = bench.pids()
    supervisor.stop()
    assert not alive(pid)
    error = error_of(ticket)
    assert (kind(error).status, error.code) == (503, "shutting_down")
    assert refused(supervisor).code == "shutting_down"
    assert supervisor.health().restarts == 0
    supervisor.stop()  # once more does nothing


def test_stopping_while_the_model_loads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "EXIT_GRACE_S", 0.1)
    supervisor = bench.start("--gate", str(bench.gate))
    (pid,) = bench.pids()
    supervisor.stop()
    assert not alive(pid)


def test_stopping_between_two_engines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deaths, "BACKOFF_S", (1000.0,) * 5)
    supervisor = bench.ready()
    error_of(supervisor.submit(request("crash")))
    wait_for(supervisor, "restarting")
    supervisor.stop()
    assert len(bench.pids()) == 1


def test_stopping_while_an_engine_is_started(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that has not seen the new engine's channel does not leave that engine behind."""
    processes: list[subprocess.Popen[bytes]] = []
    start_process = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        processes.append(start_process(*arguments, **options))
        supervisor._stopping.set()
        return processes[0]

    monkeypatch.setattr(subprocess, "Popen", popen)
    supervisor = Supervisor(bench.config, command=bench.command())
    supervisor.start()
    until(lambda: processes and not alive(processes[0].pid))


def test_stopping_before_starting() -> None:
    Supervisor(Config()).stop()


@pytest.mark.parametrize("way", ["--stay", "--deaf"])
def test_an_engine_that_does_not_leave_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(engine_process, "EXIT_GRACE_S", 0.1)
    supervisor = bench.ready(way)
    (pid,) = bench.pids()
    supervisor.stop()
    assert not alive(pid)


def test_stopping_does_not_wait_for_an_engine_that_reads_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "EXIT_GRACE_S", 0.1)
    supervisor = bench.ready("--deaf")
    (pid,) = bench.pids()
    big = [Segment("user\n" + "x" * 10_000_000, False)]
    sender = threading.Thread(target=supervisor.submit, args=(request("", segments=big),))
    sender.start()
    until(lambda: in_flight(supervisor) == 1)
    stopper = threading.Thread(target=supervisor.stop)
    stopper.start()
    stopper.join(WAIT)
    assert not stopper.is_alive()
    sender.join(WAIT)
    assert not alive(pid)


def test_nobody_waits_for_an_engine_that_reads_nothing(bench: Bench) -> None:
    """Neither whoever asks, nor whoever gives up, nor a probe."""
    supervisor = bench.ready("--deaf", queue=20)
    big = [Segment("user\n" + "x" * 1_000_000, False)]
    done = threading.Event()

    def use() -> None:
        tickets = [supervisor.submit(request("", segments=big)) for _ in range(10)]
        assert in_flight(supervisor) == 10
        for ticket in tickets:
            ticket.cancel()
        assert in_flight(supervisor) == 0
        done.set()

    user = threading.Thread(target=use, daemon=True)
    user.start()
    user.join(WAIT)
    assert done.is_set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stop": ["\ud800"]}, "half a character"),
        ({"max_tokens": 2**70}, "number that is too large"),
        ({"stop": ["x" * (MAX_FRAME_BYTES + 1)]}, "too large for the engine"),
    ],
    ids=["surrogate", "number", "size"],
)
def test_what_cannot_be_sent_keeps_no_place(
    bench: Bench, change: dict[str, Any], words: str
) -> None:
    supervisor = bench.ready(parallel=1, queue=0)
    for _ in range(3):
        with pytest.raises(ServiceError) as caught:
            supervisor.submit(request("hi", **change))
        assert kind(caught.value).status == 400
        assert words in caught.value.message
        assert in_flight(supervisor) == 0
    assert ask(supervisor, "hi") == "Finished"


def test_an_error_nobody_expects_is_a_state_with_its_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the supervisor's thread, but not in silence, and leaves no engine behind."""
    supervisor = bench.ready()
    waiting = supervisor.submit(request("hang"))
    (pid,) = bench.pids()

    def take(event: Event, life: object) -> None:
        raise RuntimeError("no such\x1bluck")

    monkeypatch.setattr(supervisor, "_take", take)
    error = error_of(waiting)
    assert (kind(error).status, error.code) == (500, "model_unavailable")
    health = supervisor.health()
    assert health.state == "failed"
    assert "no such\\x1bluck" in (health.reason or "")
    assert kind(refused(supervisor)).status == 500
    until(lambda: not alive(pid))


def test_a_load_that_cannot_be_shown_goes_on(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def show(fraction: float) -> None:
        raise RuntimeError("no such luck")

    bench.show = show
    supervisor = bench.ready()
    assert ask(supervisor, "hi") == "Finished"
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "the progress of loading cannot be shown"
    ]


@pytest.mark.parametrize("thread", ["_watch_for_silence", "_relay_all"])
def test_a_thread_beside_the_engine_that_fails_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, thread: str
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(EngineProcess, thread, fail)
    supervisor = bench.start()
    if thread == "_watch_for_silence":  # an engine that nobody watches is not kept
        wait_for(supervisor, "failed")
        reason = supervisor.health().reason or ""
    else:
        wait_for(supervisor, "ready")
        reason = error_of(supervisor.submit(request("shout 1000000"))).message
        assert "left with exit code 3" in reason  # it could write all of it
    assert "no such luck" in reason


@pytest.mark.parametrize("thread", ["engine-outbox", "engine-watch", "engine-log"])
def test_an_engine_whose_threads_cannot_be_started_is_not_left_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, thread: str
) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    start_process, start_thread = subprocess.Popen, threading.Thread.start

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        processes.append(start_process(*arguments, **options))
        return processes[-1]

    def start(self: threading.Thread) -> None:
        if self.name == thread and len(processes) == 1:
            raise RuntimeError("can't start new thread")
        start_thread(self)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(threading.Thread, "start", start)
    before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    with pytest.raises(RuntimeError):
        EngineProcess(bench.command(), 60.0)
    assert processes[0].returncode is not None
    assert not {entry.name for entry in Path("/proc/self/fd").iterdir()} - before
    processes.clear()
    supervisor = bench.ready()
    assert supervisor.health().restarts == 1
    assert ask(supervisor, "hi") == "Finished"


def test_lines_that_cannot_be_logged_are_read_nevertheless(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(process: EngineProcess, raw: bytes, n_more: int) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(EngineProcess, "_say", say)
    supervisor = bench.ready()
    error = error_of(supervisor.submit(request("shout 1000000")))
    assert "left with exit code 3" in error.message
    assert "no such luck" in error.message


def test_last_words_are_bounded_and_nothing_a_terminal_obeys(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = bench.ready()
    reason = error_of(supervisor.submit(request("shout 3000000"))).message
    assert "left with exit code 3; its last words: \\x1b[31mxxx" in reason
    assert "xxx [and 2991813 bytes more]" in reason
    assert len(reason) < 700
    assert max(len(record.getMessage()) for record in caplog.records) < 10_000


def test_last_words_are_bounded_once_they_are_escaped() -> None:
    process = EngineProcess.__new__(EngineProcess)
    process._say(b"\x1b" * 8192, 0)
    assert len(process._last_words) <= engine_process.LAST_WORDS
    assert process._last_words.startswith("\\x1b\\x1b")


CHILD_THAT_STAYS = """
import os, sys, time
open(sys.argv[1], "a").write(f"child {os.getpid()}\\n")
time.sleep(1000)
"""
STARTS_A_CHILD = (
    "import json, os, subprocess, sys; subprocess.Popen(json.loads(sys.argv[1])); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


def test_of_a_childs_child_that_writes_on_little_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "_LEFT_BYTES", 10_000)
    process = EngineProcess.__new__(EngineProcess)
    process._dead, dies = os.pipe()
    os.close(dies)
    stderr, writes = os.pipe()
    os.write(writes, b"D of no interest\n" * 3000)
    said: list[bytes] = []
    lines = engine_process._Lines(lambda raw, n_more: said.append(raw))
    process._relay_all(stderr, lines)
    assert 500 < len(said) < 1500
    for fd in (process._dead, stderr, writes):
        os.close(fd)


def test_a_childs_child_does_not_hold_up_the_restart(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the engine's end of the log as well, and may outlive it."""
    monkeypatch.setattr(engine_process, "EXIT_GRACE_S", 1e6)
    child = [sys.executable, "-c", CHILD_THAT_STAYS, str(bench.log)]
    supervisor = bench.start_command(
        [sys.executable, "-c", STARTS_A_CHILD, json.dumps(child), *bench.command()]
    )
    wait_for(supervisor, "ready")
    try:
        until(lambda: bench.logged("child "))
        error = error_of(supervisor.submit(request("exit 7 the last words")))
        assert "its last words: the last words" in error.message
        wait_for(supervisor, "ready")
        until(lambda: len(bench.logged("child ")) == 2)
    finally:
        for line in bench.logged("child "):
            with contextlib.suppress(ProcessLookupError):  # it may not write any more
                os.kill(int(line.split()[1]), signal.SIGKILL)


def test_the_header_is_read_again_when_the_file_is_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    header = preflight.header

    def counted(path: Path) -> Any:
        read.append(path)
        return header(path)

    monkeypatch.setattr(preflight, "header", counted)
    supervisor = bench.ready()
    for _ in range(2):
        crash(supervisor, "crash")
    assert len(read) == 1
    bench.model.write_bytes(b"another file")
    error_of(supervisor.submit(request("crash")))
    wait_for(supervisor, "failed")
    assert "is not a GGUF file" in (supervisor.health().reason or "")


@pytest.fixture
def watched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Its supervisors look at the model's file all the time."""
    monkeypatch.setattr(supervisor_module, "LOOK_S", 0.002)
    return bench


def put(model: Path, content: bytes) -> None:
    """Puts a whole file in the place of the model's."""
    other = model.with_suffix(".other")
    other.write_bytes(content)
    other.replace(model)


def test_a_model_that_appears_is_loaded(watched: Bench, caplog: pytest.LogCaptureFixture) -> None:
    watched.model.unlink()
    supervisor = watched.start()
    wait_for(supervisor, "failed")
    reason = supervisor.health().reason or ""
    assert reason.splitlines()[1:] == list(to_a_model())
    for line in reason.splitlines():
        assert line in caplog.text
    assert refused(supervisor).code == "model_unavailable"
    assert watched.lines() == []
    with caplog.at_level(logging.INFO):
        put(watched.model, EMPTY_GGUF)
        wait_for(supervisor, "ready")
    assert supervisor.health().reason is None
    assert supervisor.health().file is not None
    assert events(supervisor.submit(request("hi")))
    assert f"loading the model, whose file is there now: {watched.model}" in caplog.text


def test_a_file_that_grows_is_loaded_when_it_is_whole(watched: Bench) -> None:
    whole = EMPTY_GGUF[:16] + struct.pack("<Q", 1) + struct.pack("<Q", 1) + b"a"
    whole += struct.pack("<IQ", 8, 100) + b"x" * 100
    put(watched.model, whole[:40])
    supervisor = watched.start()
    wait_for(supervisor, "failed")
    for n in range(50, len(whole), 10):
        put(watched.model, whole[:n])
        until(lambda: "download was cut off" in (supervisor.health().reason or ""))
    assert watched.lines() == []  # no engine was started
    put(watched.model, whole)
    wait_for(supervisor, "ready")


def test_a_file_that_goes_away_again_is_missing(watched: Bench) -> None:
    put(watched.model, b"no model")
    supervisor = watched.start()
    until(lambda: "is not a GGUF file" in (supervisor.health().reason or ""))
    watched.model.unlink()
    until(lambda: "does not exist" in (supervisor.health().reason or ""))
    put(watched.model, EMPTY_GGUF)
    wait_for(supervisor, "ready")


@pytest.mark.parametrize("way", ["fail", "exit"])
def test_a_model_that_could_not_be_loaded_is_tried_again_once_it_is_another(
    watched: Bench, way: str
) -> None:
    supervisor = watched.start("--load", way)
    wait_for(supervisor, "failed")
    n_engines = len(watched.pids())
    assert n_engines == (1 if way == "fail" else 5)
    put(watched.model, EMPTY_GGUF)
    until(lambda: len(watched.pids()) == 2 * n_engines)
    wait_for(supervisor, "failed")


def test_a_model_that_does_not_fit_gives_way_to_one_that_does(
    watched: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = [False]
    monkeypatch.setattr(preflight, "problem", lambda *_: None if fits[0] else "It is too large.")
    supervisor = watched.start()
    wait_for(supervisor, "failed")
    fits[0] = True
    put(watched.model, EMPTY_GGUF)
    wait_for(supervisor, "ready")
    crash(supervisor, "crash")
    wait_for(supervisor, "ready")


def test_a_server_that_waits_for_a_file_can_be_stopped(bench: Bench) -> None:
    bench.model.unlink()
    supervisor = bench.start()
    wait_for(supervisor, "failed")
    supervisor.stop()
    assert not any(thread.name == "supervisor" for thread in threading.enumerate())


def ask(supervisor: Supervisor, text: str) -> str:
    """How one request ends: the name of its last event, or the code of its error."""
    try:
        return type(events(supervisor.submit(request(text)))[-1]).__name__
    except ServiceError as error:
        return error.code or ""


def crash(supervisor: Supervisor, text: str, *others: str, code: str = "engine_crashed") -> None:
    """The engine dies of a request, which gets that code, while the others are in it."""
    count = supervisor.health().restarts
    for other in others:
        ticket = supervisor.submit(request(other))
        if not other.endswith("-early"):
            while ticket.next(WAIT) is None:
                raise AssertionError("not admitted")
    assert ask(supervisor, text) == code
    wait_for_restart(supervisor, count + 1)


def convict(supervisor: Supervisor, text: str) -> None:
    """A request kills the engine until it is known for it."""
    for code in ("engine_crashed", "engine_crashed", CULPRIT):
        crash(supervisor, text, code=code)


def verdict(supervisor: Supervisor, text: str) -> str:
    suspects = supervisor._traffic._suspects
    return suspects.verdict(suspects.fingerprint(request(text)))


@pytest.mark.parametrize("killer", ["abort", "abort-early", "segv"])
def test_a_request_of_which_the_engine_dies_is_refused_the_third_time(
    bench: Bench, killer: str
) -> None:
    """A client that tries twice more by itself gets to know."""
    supervisor = bench.ready()
    convict(supervisor, killer)
    for _ in range(3):
        with pytest.raises(ServiceError) as caught:
            supervisor.submit(request(killer, deadline=1e9, sampling=Sampling(seed=5)))
        error = caught.value
        assert (kind(error).status, error.code, error.retry) == (400, CULPRIT, False)
        assert in_flight(supervisor) == 0
    assert ask(supervisor, "hi") == "Finished"
    assert supervisor.health().restarts == 3


def test_the_death_of_one_alone_is_none_in_a_row(bench: Bench) -> None:
    """Two requests that kill take four deaths that count, where five are the end."""
    supervisor = bench.ready()
    killers = ("abort one", "abort two")
    for killer in killers:
        convict(supervisor, killer)
    for killer in killers:
        assert ask(supervisor, killer) == CULPRIT
    health = supervisor.health()
    assert (health.state, health.restarts) == ("ready", 6)


def test_killers_that_differ_each_time_do_not_end_the_service(bench: Bench) -> None:
    """Of no two deaths the same request was there; from the third on each was alone."""
    supervisor = bench.ready()
    assert ask(supervisor, "hi") == "Finished"
    for i in range(8):
        crash(supervisor, f"abort {i}")
    assert ask(supervisor, "hi") == "Finished"
    health = supervisor.health()
    assert (health.state, health.restarts) == ("ready", 8)
    assert verdict(supervisor, "abort 7") == "free"


def test_after_two_deaths_requests_go_one_at_a_time_until_one_ends_well(bench: Bench) -> None:
    supervisor = bench.ready(queue=20)
    for i in range(2):
        crash(supervisor, f"abort {i}")
    first = supervisor.submit(request("slow 3 0.01"))
    second = supervisor.submit(request("hang"))
    assert isinstance(first.next(WAIT), Admitted)
    assert f"submit {second.id}" not in bench.lines()
    assert isinstance(events(first)[-1], Finished)
    bench.logged(f"submit {second.id}")
    second.cancel()
    beside = [supervisor.submit(request("hang")) for _ in range(2)]
    for ticket in beside:
        bench.logged(f"submit {ticket.id}")


def test_an_engine_that_has_never_answered_is_given_up_after_five_deaths(bench: Bench) -> None:
    """Whatever it is asked it dies of: that is no request's fault."""
    supervisor = bench.ready()
    for i in range(4):
        crash(supervisor, f"abort {i}")
    assert ask(supervisor, "abort 4") == "engine_crashed"
    wait_for(supervisor, "failed")


def test_deaths_by_a_kill_make_nobody_wait(bench: Bench) -> None:
    supervisor = bench.ready(queue=20)
    for _ in range(2):
        crash(supervisor, "crash")
    for ticket in [supervisor.submit(request("hang")) for _ in range(2)]:
        bench.logged(f"submit {ticket.id}")


@pytest.mark.parametrize("order", ["crash", "crash-early", "exit 7 words", "nonsense", "close"])
def test_for_other_deaths_nobody_is_blamed(bench: Bench, order: str) -> None:
    supervisor = bench.ready()
    for _ in range(4):
        crash(supervisor, order)
    assert verdict(supervisor, order) == "free"


@pytest.mark.parametrize(("order", "verdict_then"), [("close", "alone"), ("nonsense", "free")])
def test_nonsense_is_nobodys_fault_however_its_process_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, order: str, verdict_then: str
) -> None:
    """Both leave with exit code 0, which is taken for a signal here."""
    monkeypatch.setattr(engine_process, "_OWN_SIGNALS", {0})
    supervisor = bench.ready()
    for _ in range(2):
        crash(supervisor, order)
    assert verdict(supervisor, order) == verdict_then


def test_a_stopped_engine_is_nobodys_fault(bench: Bench) -> None:
    supervisor = bench.ready()
    for count in (1, 2):
        assert error_of(stopped(bench, supervisor)).code == "engine_crashed"
        wait_for_restart(supervisor, count)
    assert verdict(supervisor, "stop") == "free"


def stopped(bench: Bench, supervisor: Supervisor) -> Ticket:
    """A request by which the engine is stopped, which is soon found out."""
    ticket = supervisor.submit(request("stop"))
    until(lambda: engine_process.is_stopped(bench.pids()[-1]))
    process = supervisor._process
    assert process is not None
    process._hang_s = 0.3
    return ticket


@pytest.mark.parametrize("order", ["stall", "stall-reading"])
def test_a_hang_is_the_fault_of_what_is_there(bench: Bench, order: str) -> None:
    supervisor = bench.ready()
    convict(supervisor, order)
    assert ask(supervisor, order) == CULPRIT


def test_who_waits_until_one_alone_is_gone_is_told_to_come_again(bench: Bench) -> None:
    supervisor = bench.ready(queue=20)
    for _ in range(2):
        supervisor._traffic._suspects.blame(
            [supervisor._traffic._suspects.fingerprint(request("abort-cancelled"))]
        )
    killer = supervisor.submit(request("abort-cancelled"))
    waiting = supervisor.submit(request("hi"))
    assert isinstance(killer.next(WAIT), Admitted)
    killer.cancel()
    assert error_of(waiting).code == "engine_crashed"
    wait_for(supervisor, "ready")
    assert verdict(supervisor, "abort-cancelled") == "refused"
    assert ask(supervisor, "hi") == "Finished"


def hung_up(supervisor: Supervisor) -> bool:
    """Whether the engine's end of the socket is closed, which is later than its first thread's end:
    what is written before that is lost without an error."""
    assert supervisor._process is not None
    descriptor = supervisor._process._channel._frames.fileno()
    if descriptor < 0:  # ours is closed, too
        return True
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


def test_what_comes_when_the_engine_is_dead_already_is_not_blamed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has noticed that yet, as the last words are still to be read."""
    relay = EngineProcess._relay_log
    may_read: list[threading.Event] = []

    def late(process: EngineProcess, stderr: IO[bytes]) -> None:
        may_read.append(threading.Event())
        may_read[-1].wait(WAIT)
        relay(process, stderr)

    def until_relayed(count: int) -> None:
        until(lambda: len(may_read) == count)

    monkeypatch.setattr(engine_process, "EXIT_GRACE_S", WAIT)
    monkeypatch.setattr(EngineProcess, "_relay_log", late)
    supervisor = bench.ready()
    for count in (1, 2):
        until_relayed(count)
        killer = supervisor.submit(request("abort"))
        until(lambda: hung_up(supervisor))
        innocent = supervisor.submit(request("hi"))
        may_read[-1].set()
        assert error_of(killer).code == error_of(innocent).code == "engine_crashed"
        wait_for_restart(supervisor, count)
    assert verdict(supervisor, "abort") == "alone"
    assert verdict(supervisor, "hi") == "free"
    may_read[-1].set()


def test_what_is_written_is_blamed_however_late_its_thread_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has died of it before the thread that wrote it is back from the socket."""
    send = Channel.send_frame

    def slowly(channel: Channel, frame: bytes) -> None:
        send(channel, frame)
        if b"abort" in frame:
            time.sleep(0.3)

    monkeypatch.setattr(Channel, "send_frame", slowly)
    supervisor = bench.ready()
    convict(supervisor, "abort")


def test_who_waits_for_a_slot_is_not_blamed(bench: Bench) -> None:
    supervisor = bench.ready(queue=20)
    others = ("wait", "hang", "hang-early")
    for _ in range(2):
        crash(supervisor, "abort", *others)
    assert verdict(supervisor, "abort") == "alone"
    assert [verdict(supervisor, other) for other in others] == ["free", "alone", "alone"]


def test_a_suspect_goes_alone_and_a_good_end_clears_it(bench: Bench) -> None:
    supervisor = bench.ready(queue=20)
    suspect_text = "slow 3 0.001"
    for _ in range(2):
        supervisor._traffic._suspects.blame(
            [supervisor._traffic._suspects.fingerprint(request(suspect_text))]
        )
    before = supervisor.submit(request("hang"))
    bench.logged(f"submit {before.id}")
    suspect = supervisor.submit(request(suspect_text))
    later = supervisor.submit(request("hi"))
    assert [ticket.next(0.2) for ticket in (suspect, later)] == [None, None]
    assert [line for line in bench.lines() if line.startswith("submit")] == ["submit 1"]
    before.cancel()
    assert isinstance(events(suspect)[-1], Finished)
    assert isinstance(events(later)[-1], Finished)
    assert verdict(supervisor, suspect_text) == "free"


def test_a_suspect_that_is_cancelled_stays_one(bench: Bench) -> None:
    supervisor = bench.ready(queue=20)
    for _ in range(2):
        supervisor._traffic._suspects.blame(
            [supervisor._traffic._suspects.fingerprint(request("hang-late"))]
        )
    suspect = supervisor.submit(request("hang-late"))
    until(lambda: isinstance(suspect.next(0.01), Text))
    suspect.cancel()
    assert ask(supervisor, "hi") == "Finished"
    assert verdict(supervisor, "hang-late") == "alone"


def test_a_suspect_that_gives_up_waiting_is_never_sent(bench: Bench) -> None:
    supervisor = bench.ready(queue=20)
    for _ in range(2):
        crash(supervisor, "abort")
    assert ask(supervisor, "hi") == "Finished"
    before = supervisor.submit(request("hang"))
    suspect = supervisor.submit(request("abort"))
    later = supervisor.submit(request("hi"))
    suspect.cancel()
    assert isinstance(events(later)[-1], Finished)
    before.cancel()
    bench.logged(f"cancel {before.id}")
    assert f"submit {suspect.id}" not in bench.lines()
    assert f"cancel {suspect.id}" not in bench.lines()


def test_who_leaves_at_once_is_blamed_nevertheless(bench: Bench) -> None:
    """Else a killer would only have to close its connection."""
    supervisor = bench.ready()
    for count in (1, 2, 3):
        killer = supervisor.submit(request("abort-cancelled"))
        assert isinstance(killer.next(WAIT), Admitted)
        killer.cancel()
        wait_for_restart(supervisor, count)
    assert ask(supervisor, "abort-cancelled") == CULPRIT


def test_two_killers_end_refused_and_the_innocents_among_them_answered(bench: Bench) -> None:
    """All of them ask again as long as they are told to, as clients do."""
    supervisor = bench.ready(parallel=4, queue=30)
    ends: dict[str, str] = {}

    def persist(text: str) -> None:
        end = "engine_crashed"
        while end in ("engine_crashed", "restarting", "queue_full"):
            end = ask(supervisor, text)
            time.sleep(0.01)
        ends[text] = end

    innocents = [f"slow {n} 0.01" for n in range(1, 9)]
    killers = ["abort one", "segv two"]
    threads = [
        threading.Thread(target=persist, args=(text,), daemon=True)
        for text in [*innocents, *killers]
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(ends) == 10)
    assert ends == dict.fromkeys(innocents, "Finished") | dict.fromkeys(killers, CULPRIT)
    wait_for(supervisor, "ready")


def test_a_request_that_was_too_long_is_sent_again_in_its_place(bench: Bench) -> None:
    supervisor = bench.ready(parallel=1, queue=0)
    ticket = supervisor.submit(request("trim 7 b c d e f g"), trims=True)
    assert isinstance(until(lambda: ticket.next(0.01)), TooLong)
    assert refused_for(supervisor) == "queue_full"
    supervisor.submit_again(ticket, request("trim 7 b c"))
    assert isinstance(events(ticket)[-1], Finished)
    other = supervisor.submit(request("trim 7 b c d e f g"), trims=True)
    assert isinstance(until(lambda: other.next(0.01)), TooLong)
    other.cancel()
    assert ask(supervisor, "hi") == "Finished"
    submits = [line for line in bench.lines() if not line.startswith("start")]
    assert submits == [f"submit {id}" for id in (1, 1, 2, 3)]  # and no cancel of what had ended


def refused_for(supervisor: Supervisor) -> str | None:
    with pytest.raises(ServiceError) as caught:
        supervisor.submit(request("hi"))
    return caught.value.code


def test_what_is_sent_again_after_a_crash_has_the_crash_for_an_end(bench: Bench) -> None:
    supervisor = bench.ready()
    ticket = supervisor.submit(request("trim 7 b c d e f g"), trims=True)
    assert isinstance(until(lambda: ticket.next(0.01)), TooLong)
    crash(supervisor, "crash")
    supervisor.submit_again(ticket, request("hi"))
    assert error_of(ticket).code == "engine_crashed"


def test_no_file_descriptor_of_one_process_is_left_in_the_other(bench: Bench) -> None:
    """The engine ends because its socket does: for that nobody else may hold the other end."""
    supervisor = bench.ready()
    (pid,) = bench.pids()
    ours, theirs = sockets(os.getpid()), sockets(pid)
    assert len(theirs) == 1
    assert not ours & theirs
    error_of(supervisor.submit(request("crash")))
    wait_for(supervisor, "ready")
    supervisor.stop()
    assert not sockets(os.getpid()) & theirs


def sockets(pid: int) -> set[str]:
    """The sockets a process has open, as the kernel numbers them."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:  # the listing's own
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def test_descriptors_do_not_pile_up_over_restarts(bench: Bench) -> None:
    supervisor = bench.ready()

    def crash(count: int) -> int:
        error_of(supervisor.submit(request("crash")))
        wait_for_restart(supervisor, count)
        events(supervisor.submit(request("hi")))
        return len(list(Path("/proc/self/fd").iterdir()))

    first = crash(1)
    assert [crash(count) for count in (2, 3, 4)] == [first] * 3


def test_the_engines_lines_go_to_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    supervisor = bench.ready()
    error_of(supervisor.submit(request("exit 7 terrible news")))
    wait_for(supervisor, "ready")
    found = {(record.levelname, record.getMessage()) for record in caplog.records}
    assert ("INFO", "engine: the fake model is loaded") in found
    assert ("ERROR", "engine: terrible news") in found
    assert any(level == "ERROR" and "left with exit code 7" in text for level, text in found)
    assert any(text.startswith("ready: fake.gguf, 1.00 GB, chatml prompts") for _, text in found)


def test_the_last_words_are_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come on a thread of their own, which may be late."""
    relay = EngineProcess._relay_log
    asked = threading.Event()

    def late(process: EngineProcess, stderr: IO[bytes]) -> None:
        asked.wait(WAIT)
        time.sleep(0.2)
        relay(process, stderr)

    monkeypatch.setattr(EngineProcess, "_relay_log", late)
    supervisor = bench.ready()
    asked.set()
    error = error_of(supervisor.submit(request("exit 7 the last words")))
    assert "its last words: the last words" in error.message


def test_an_engine_killed_from_outside(bench: Bench) -> None:
    supervisor = bench.ready()
    ticket = supervisor.submit(request("hang"))
    os.kill(bench.pids()[0], signal.SIGABRT)
    assert "signal 6 (SIGABRT)" in error_of(ticket).message
    wait_for(supervisor, "ready")


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("stall", "a step has stood still"),
        ("stall-reading", "a request has been read for"),
        ("stop", "nothing came from it for"),
    ],
)
def test_an_engine_that_hangs_is_killed_and_started_again(
    bench: Bench, order: str, reason: str
) -> None:
    supervisor = bench.ready()
    bystander = supervisor.submit(request("hang"))
    culprit = stopped(bench, supervisor) if order == "stop" else supervisor.submit(request(order))
    for ticket in (culprit, bystander):
        error = error_of(ticket)
        assert (kind(error).status, error.code) == (503, "engine_crashed")
        assert "hung" in error.message
        assert reason in error.message
    wait_for(supervisor, "ready")
    first, second = bench.pids()
    assert not alive(first)
    assert alive(second)


def test_an_engine_that_beats_is_not_killed_however_long_a_request_takes(bench: Bench) -> None:
    supervisor = bench.ready(hang_timeout=2.0)
    ticket = supervisor.submit(request("hang"))
    time.sleep(3.0)
    assert supervisor.health().state == "ready"
    ticket.cancel()
    assert len(bench.pids()) == 1


def test_a_process_that_could_not_go_on_has_not_hung(bench: Bench) -> None:
    """As when its container was paused: the step that it is in began long ago."""
    supervisor = bench.ready()
    process = supervisor._process
    assert process is not None
    process._heard -= 0.75 * supervisor._config.hang_timeout
    until(lambda: process._steady > 0)
    assert isinstance(supervisor.submit(request("stall")).next(WAIT), Admitted)
    assert ask(supervisor, "hi") == "Finished"
    process._steady -= supervisor._config.hang_timeout
    assert ask(supervisor, "stall") == "engine_crashed"
    wait_for_restart(supervisor, 1)


def test_health_has_what_the_engine_tells(bench: Bench) -> None:
    supervisor = bench.ready()
    until(lambda: supervisor.health().kv_cells_used == 5)
    health = supervisor.health()
    assert health.kv_cells_cached == 7
    assert health.last_step_age_s is not None
    assert 0 <= health.last_step_age_s < WAIT
    tickets = [supervisor.submit(request(order, n=2)) for order in ("hang", "wait", "hang-early")]
    until(lambda: supervisor.health().answers_running == 2)
    health = supervisor.health()
    assert (health.running, health.queued, health.answers_queued) == (1, 2, 4)
    for ticket in tickets:
        ticket.cancel()


def test_draining_answers_what_was_admitted_and_nothing_else(bench: Bench) -> None:
    supervisor = bench.ready()
    ticket = supervisor.submit(request("slow 5 0.05"))
    drained: list[bool] = []
    thread = threading.Thread(target=lambda: drained.append(supervisor.drain(WAIT)))
    thread.start()
    until(lambda: supervisor.health().state == "draining")
    error = refused(supervisor)
    assert (kind(error).status, error.code) == (503, "shutting_down")
    assert error.retry_after
    assert isinstance(events(ticket)[-1], Finished)
    thread.join(WAIT)
    assert drained == [True]


def test_draining_ends_with_its_time(bench: Bench) -> None:
    supervisor = bench.ready()
    ticket = supervisor.submit(request("hang"))
    assert not supervisor.drain(0.1)
    supervisor.stop()
    assert error_of(ticket).code == "shutting_down"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"GG", "is not a GGUF file"),
        (b"<html>404</html>", "is not a GGUF file"),
        (EMPTY_GGUF[:-1], "was cut off"),
    ],
)
def test_a_file_that_is_no_whole_gguf_is_not_loaded(bench: Bench, data: bytes, words: str) -> None:
    bench.model.write_bytes(data)
    supervisor = bench.start()
    wait_for(supervisor, "failed")
    reason = supervisor.health().reason or ""
    assert str(bench.model) in reason
    assert words in reason
    assert kind(refused(supervisor)).status == 500
    assert bench.lines() == []  # no engine was started


def test_a_model_that_cannot_fit_is_not_loaded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "problem", lambda config, model, free: "It does not fit.")
    supervisor = bench.start()
    wait_for(supervisor, "failed")
    assert supervisor.health().reason == "It does not fit."
    assert bench.lines() == []
