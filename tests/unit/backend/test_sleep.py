"""An engine without requests is ended, and the next request starts another: sleeping and waking."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time

import pytest

from sheily_server.backend import preflight
from sheily_server.backend import process as engine_process
from sheily_server.backend.supervisor import Life, Supervisor
from sheily_server.backend.tickets import Ticket
from sheily_server.errors import ServiceError
from sheily_server.protocol.commands import Segment, Tokenize
from sheily_server.protocol.events import Beat, Finished, Tokenized
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
)
from tests.support.waiting import WAIT, until

SOON_S = 0.01
LONG_S = 1000.0


def asleep(bench: Bench, *arguments: str) -> Supervisor:
    """A supervisor whose engine had nothing to do; `--gate` holds the next load."""
    bench.gate.touch()
    supervisor = bench.start("--gate", str(bench.gate), *arguments, idle_unload=SOON_S)
    wait_for(supervisor, "sleeping")
    bench.gate.unlink()
    return supervisor


def answered(supervisor: Supervisor, ticket: Ticket) -> bool:
    """Whether a request that waits for the engine is answered once it is awake."""
    until(supervisor.awake)
    supervisor.submit(request("one two"), ticket=ticket)
    return isinstance(events(ticket)[-1], Finished)


def test_an_engine_without_requests_is_ended(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    supervisor = asleep(bench)
    health = supervisor.health()
    assert (health.reason, health.progress, health.restarts) == (None, None, 0)
    assert (health.engine, health.kv_cells_used) == (None, None)
    assert health.file is not None
    (pid,) = bench.pids()
    bench.logged("eof")
    until(lambda: not alive(pid))
    until(lambda: "sleeping: no request came for 0.01 s (LLM_IDLE_UNLOAD)" in caplog.text)
    assert "the engine process" not in caplog.text
    assert not supervisor.awake()


def test_the_next_request_wakes_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    supervisor = asleep(bench)
    ticket = supervisor.enter(choices=1)
    health = supervisor.health()
    assert (health.state, health.reason, health.queued) == ("waking", None, 1)
    until(lambda: supervisor.health().progress == 0.25)
    assert not supervisor.awake()
    bench.gate.touch()
    assert answered(supervisor, ticket)
    assert len(bench.pids()) == 2
    assert supervisor.health().restarts == 0
    assert "waking: a request came" in caplog.text
    wait_for(supervisor, "sleeping")  # and so on


def test_a_question_about_tokens_wakes_it_too(bench: Bench) -> None:
    supervisor = asleep(bench)
    ticket = supervisor.enter()
    bench.gate.touch()
    until(supervisor.awake)
    supervisor.submit(Tokenize(0, [Segment("hi", False)]), ticket=ticket)
    assert events(ticket) == [Tokenized(ticket.id, [104, 105], [b"h", b"i"])]


def test_who_comes_while_it_wakes_waits_within_the_bound_of_the_queue(bench: Bench) -> None:
    supervisor = asleep(bench)
    tickets = [supervisor.enter(choices=1) for _ in range(3)]
    with pytest.raises(ServiceError) as caught:
        supervisor.enter(choices=1)
    assert (kind(caught.value).status, caught.value.code) == (429, "queue_full")
    assert [supervisor.queue_place(ticket) for ticket in tickets] == [1, 2, 3]
    tickets[0].cancel()
    tickets[0] = supervisor.enter(choices=1)
    bench.gate.touch()
    assert all(answered(supervisor, ticket) for ticket in tickets)
    assert len(bench.pids()) == 2


def test_who_comes_at_once_starts_one_engine(bench: Bench) -> None:
    supervisor = asleep(bench)
    together = threading.Barrier(3)
    tickets: list[Ticket] = []

    def ask() -> None:
        together.wait(WAIT)
        tickets.append(supervisor.enter(choices=1))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    bench.gate.touch()
    assert all(answered(supervisor, ticket) for ticket in tickets)
    assert len(bench.pids()) == 2


def test_it_sleeps_only_while_there_is_no_request(bench: Bench) -> None:
    supervisor = bench.ready(idle_unload=LONG_S)
    tickets, ready_long_ago = supervisor._traffic.tickets, Life(ready_at=-math.inf)
    ticket = supervisor.submit(request("hang"))
    tickets._empty_since = -math.inf
    assert supervisor._take(Beat(), ready_long_ago)
    ticket.cancel()  # the time begins anew
    assert supervisor._take(Beat(), ready_long_ago)
    tickets._empty_since = -math.inf
    assert supervisor._take(Beat(), Life(ready_at=time.monotonic()))  # it was not used yet
    assert supervisor._take(Beat(), Life())  # it loads
    assert supervisor.health().state == "ready"


def test_without_the_setting_it_never_sleeps(bench: Bench) -> None:
    supervisor = bench.ready()
    supervisor._traffic.tickets._empty_since = -math.inf
    assert supervisor._take(Beat(), Life(ready_at=-math.inf))
    assert supervisor.health().state == "ready"


def test_a_request_that_comes_while_the_engine_leaves_waits_for_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one does not leave by itself, and is killed."""
    monkeypatch.setattr(engine_process, "EXIT_GRACE_S", 0.5)
    supervisor = asleep(bench, "--stay")
    ticket = supervisor.enter(choices=1)
    bench.gate.touch()
    assert answered(supervisor, ticket)
    assert len(bench.pids()) == 2
    assert not alive(bench.pids()[0])
    assert supervisor.health().restarts == 0


def test_a_model_that_is_gone_by_then_is_named(bench: Bench) -> None:
    supervisor = asleep(bench)
    bench.model.unlink()
    error = error_of(supervisor.enter(choices=1))
    assert (kind(error).status, error.code) == (500, "model_unavailable")
    assert f"{bench.model} does not exist" in error.message
    assert refused(supervisor).code == "model_unavailable"
    bench.gate.touch()
    bench.model.write_bytes(EMPTY_GGUF)
    wait_for(supervisor, "ready")


def test_a_model_that_is_broken_by_then_is_named(bench: Bench) -> None:
    supervisor = asleep(bench)
    bench.model.write_bytes(b"GGUF")
    error = error_of(supervisor.enter(choices=1))
    assert (kind(error).status, error.code) == (500, "model_unavailable")
    assert str(bench.model) in error.message
    assert in_flight(supervisor) == 0


def test_memory_that_is_short_by_then_is_short_as_at_a_restart(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = asleep(bench)
    bench.gate.touch()
    problems = iter(["The model does not fit."])
    monkeypatch.setattr(preflight, "problem", lambda *_: next(problems, None))
    error = error_of(supervisor.enter(choices=1))
    assert (kind(error).status, error.code) == (503, "engine_crashed")
    assert "was not started: The model does not fit." in error.message
    until(lambda: len(bench.pids()) == 2)
    assert supervisor.health().restarts == 1


def test_a_crash_while_it_wakes_fails_who_waits(bench: Bench) -> None:
    supervisor = asleep(bench)
    tickets = [supervisor.enter(choices=1) for _ in range(2)]
    until(lambda: supervisor.health().progress == 0.25)
    os.kill(bench.pids()[1], signal.SIGKILL)
    for ticket in tickets:
        error = error_of(ticket)
        assert (kind(error).status, error.code) == (503, "engine_crashed")
        assert error.retry_after
    wait_for(supervisor, "restarting")
    assert supervisor.health().restarts == 1
    assert refused(supervisor).code == "restarting"


def test_what_is_sent_too_late_has_the_crash_for_an_end(bench: Bench) -> None:
    """A request may look whether the engine is awake only after the crash."""
    supervisor = asleep(bench)
    ticket = supervisor.enter(choices=1)
    until(lambda: len(bench.pids()) == 2)
    os.kill(bench.pids()[1], signal.SIGKILL)
    bench.gate.touch()
    until(lambda: supervisor.health().restarts == 1)
    until(supervisor.awake)
    supervisor.submit(request("hi"), ticket=ticket)
    assert error_of(ticket).code == "engine_crashed"


def test_stopping_while_it_sleeps(bench: Bench) -> None:
    supervisor = asleep(bench)
    assert supervisor.drain(LONG_S)
    supervisor.stop()
    assert not supervisor._thread.is_alive()
    assert len(bench.pids()) == 1
    with pytest.raises(ServiceError) as caught:
        supervisor.enter()
    assert caught.value.code == "shutting_down"


def test_stopping_while_it_wakes(bench: Bench) -> None:
    """Who waits for the model is told at once: loading it would take longer than answering."""
    supervisor = asleep(bench)
    ticket = supervisor.enter(choices=1)
    until(lambda: supervisor.health().progress == 0.25)
    assert supervisor.drain(LONG_S)
    assert error_of(ticket).code == "shutting_down"
    assert supervisor.awake()  # nobody waits on
    with pytest.raises(ServiceError) as caught:
        supervisor.enter()
    assert caught.value.code == "shutting_down"
    supervisor.stop()
    assert not supervisor._thread.is_alive()
    until(lambda: not any(map(alive, bench.pids())))
