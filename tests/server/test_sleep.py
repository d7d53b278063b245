"""A server whose engine sleeps, as its callers see it: they wait, and are served."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sheily_server.api import route
from sheily_server.web import app
from tests.server.conftest import Serve, Start
from tests.support.program import PROGRAM
from tests.support.serving import Answer, Server, read_to_end, read_until
from tests.support.waiting import WAIT, until

SOON_S = 0.01
MESSAGES = [{"role": "user", "content": "one two"}]
STREAMS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "one two"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 9},
    "/v1/responses": {"input": "one two"},
}
ASKS: dict[str, dict[str, Any]] = {
    **STREAMS,
    "/chat": {"message": "one two"},
    "/v1/tokenize": {"text": "one two"},
    "/v1/detokenize": {"tokens": [104, 105]},
    "/v1/messages/count_tokens": {"messages": MESSAGES},
    "/apply-template": {"messages": MESSAGES},
}

Asleep = Callable[..., Server]


@pytest.fixture
def asleep(serve: Serve, tmp_path: Path) -> Asleep:
    """Starts a server whose engine sleeps; its next load ends once `gate` is there."""

    def start(**settings: Any) -> Server:
        gate = tmp_path / "gate"
        gate.touch()
        server = serve("--gate", str(gate), idle_unload=SOON_S, **settings)
        server.wait_for("sleeping")
        gate.unlink()
        return server

    return start


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def wakes(server: Server, ask: Callable[[], Answer], gate: Path) -> Answer:
    """The answer to a request that came while the engine slept."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        server.wait_for("waking")
        gate.touch()
        return answer.result(WAIT)


def test_what_needs_no_model_answers_while_it_sleeps(asleep: Asleep) -> None:
    server = asleep()
    answer = server.get("/health")
    health = answer.json()
    assert answer.status == 200
    assert (health["status"], health["state"], health["reason"]) == ("ok", "sleeping", None)
    assert (health["progress"], health["kv_cells"], health["kernel"]) == (None, None, None)
    assert health["sampling"] is not None
    (model,) = server.get("/v1/models").json()["data"]
    assert model["bytes"] is not None
    for path in ("/", "/livez", "/openapi.json", f"/v1/models/{model['id']}"):
        assert server.get(path).status == 200
    metrics = server.get("/metrics").body.decode()
    assert 'sheily_engine_state{state="sleeping"} 1.0' in metrics
    assert 'sheily_engine_state{state="ready"} 0.0' in metrics
    assert server.health()["state"] == "sleeping"  # none of these woke it
    assert len(server.engine_lines("start ")) == 1


@pytest.mark.parametrize("path", ASKS)
def test_whatever_needs_the_model_wakes_it(asleep: Asleep, gate: Path, path: str) -> None:
    server = asleep()
    answer = wakes(server, lambda: server.ask("POST", path, ASKS[path]), gate)
    assert answer.status == 200, answer.body
    assert len(server.engine_lines("start ")) == 2


def test_while_it_wakes_it_says_so(asleep: Asleep, gate: Path) -> None:
    server = asleep()
    with server.opened("one two"):
        health = server.wait_for("waking")
        assert (health["status"], health["reason"], health["queued"]) == ("ok", None, 1)
        until(lambda: server.health()["progress"] == 0.25)
        assert server.get("/health").status == 200
        assert 'sheily_engine_state{state="waking"} 1.0' in server.get("/metrics").body.decode()
        gate.touch()


def test_a_response_in_the_background_wakes_it(asleep: Asleep, gate: Path) -> None:
    server = asleep()
    asked = {"input": "one two", "background": True}
    queued = server.ask("POST", "/v1/responses", asked).json()
    assert queued["status"] == "queued"
    server.wait_for("waking")
    gate.touch()

    def made() -> Any:
        found = server.get(f"/v1/responses/{queued['id']}").json()
        return found if found["status"] not in ("queued", "in_progress") else None

    assert until(made)["status"] == "completed"


def test_all_who_come_while_it_wakes_are_served_and_no_more_than_may_wait(
    asleep: Asleep, gate: Path
) -> None:
    server = asleep(parallel=1, queue=3)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.complete, f"number {i}") for i in range(4)]
        until(lambda: server.health()["queued"] == 4)
        refused = server.complete("one too many")
        assert (refused.status, refused.error()["code"]) == (429, "queue_full")
        gate.touch()
        said = [each.result(WAIT).json()["choices"][0]["message"]["content"] for each in answers]
    assert said == [f"number {i}" for i in range(4)]
    assert len(server.engine_lines("start ")) == 2


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_is_kept_alive_while_it_wakes(
    asleep: Asleep, gate: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(route, "PATIENCE_S", 0.0)
    monkeypatch.setattr(app, "KEEP_ALIVE_S", 0.01)
    monkeypatch.setattr(app, "WAKING_S", 0.01)
    server = asleep()
    alive = b'{"type":"ping"}' if path == "/v1/messages" else b": keep-alive"
    with server.opened("", path, **(STREAMS[path] | {"stream": True})) as connection:
        begun = read_until(connection, alive)
        begun += read_until(connection, alive)
        assert begun.startswith(b"HTTP/1.1 200 OK")
        assert b"one" not in begun
        gate.touch()
        read_until(connection, b"two")
        until(lambda: server.health()["active_requests"] == 0)


def test_a_stream_has_an_honest_status_where_the_load_is_short(asleep: Asleep, gate: Path) -> None:
    server = asleep()
    refused = wakes(server, lambda: server.complete("too-long 300 1", stream=True), gate)
    assert (refused.status, refused.error()["code"]) == (400, "context_length_exceeded")
    assert server.health()["active_requests"] == 0


@pytest.mark.parametrize("path", STREAMS)
def test_a_model_that_is_gone_ends_a_stream_with_an_error(
    asleep: Asleep, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The status is out by then: each dialect has its error as an event."""
    monkeypatch.setattr(route, "PATIENCE_S", 0.0)
    server = asleep()
    loading = threading.Event()
    header = server.supervisor._file.header
    monkeypatch.setattr(server.supervisor._file, "header", lambda: loading.wait(WAIT) and header())
    alive = b"ping" if path == "/v1/messages" else b"keep-alive"
    with server.opened("", path, **(STREAMS[path] | {"stream": True})) as connection:
        read_until(connection, alive)
        server.config.model_path.unlink()
        loading.set()
        rest = read_until(connection, b"does not exist")
        if b"\n\n" not in rest:
            rest += read_until(connection, b"\n\n")
    (data,) = [line for line in rest.splitlines() if line.startswith(b"data: ")][-1:]
    found = json.loads(data.removeprefix(b"data: "))
    assert str(server.config.model_path) in json.dumps(found)
    assert (b"event: error" in rest) == (path in ("/v1/messages", "/v1/responses"))
    assert server.health()["state"] == "failed"
    assert server.health()["active_requests"] == 0


def test_a_model_that_is_gone_is_a_500(asleep: Asleep) -> None:
    server = asleep()
    server.config.model_path.unlink()
    answer = server.complete("hi")
    assert (answer.status, answer.error()["code"]) == (500, "model_unavailable")
    assert "does not exist" in answer.error()["message"]


def test_a_crash_while_it_wakes_is_a_503(asleep: Asleep) -> None:
    server = asleep()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.complete, "hi")
        server.wait_for_engine("start ", 2)
        os.kill(server.engine_pid(), signal.SIGKILL)
        answer = asked.result(WAIT)
    assert answer.status == 503
    assert answer.error()["code"] in ("engine_crashed", "restarting")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("patience_s", [0.0, WAIT])
def test_who_waits_longer_than_their_deadline_is_told(
    asleep: Asleep, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    monkeypatch.setattr(route, "PATIENCE_S", patience_s)
    server = asleep(timeout=0.3)
    answer = server.complete("hi", stream=True)
    if patience_s:
        assert (answer.status, answer.error()["code"]) == (504, "timeout")
    else:
        assert answer.events()[-1]["error"]["code"] == "timeout"
    assert server.health()["active_requests"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_while_it_wakes_frees_their_place(
    asleep: Asleep, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(route, "PATIENCE_S", 0.0)
    monkeypatch.setattr(app, "WAKING_S", 0.01)
    server = asleep()
    with server.opened("hi", stream=stream):
        until(lambda: server.health()["queued"] == 1)
    until(lambda: server.health()["queued"] == 0)


def test_a_signal_while_it_sleeps(start: Start) -> None:
    program = start("--port=0", LLM_IDLE_UNLOAD="0.01").listening("sleeping")
    program.process.terminate()
    assert program.ended() == 0
    assert "no requests are running" in program.log
    assert "Traceback" not in program.log


def test_a_signal_while_it_wakes_ends_at_once(start: Start, gate: Path) -> None:
    """Not after LLM_DRAIN_TIMEOUT, which is for those whom a model answers."""
    gate.touch()
    command = "command = json.loads(sys.argv[1])"
    script = PROGRAM.replace(command, f"{command} + ['--gate', {str(gate)!r}]")
    settings = {"LLM_IDLE_UNLOAD": "0.01", "LLM_DRAIN_TIMEOUT": "1000"}
    program = start("--port=0", program=script, **settings).listening("sleeping")
    gate.unlink()
    with program.opened("hi") as connection:
        program.wait_for_engine("start ", 2)
        program.process.terminate()
        rest = read_to_end(connection)
    assert b"503" in rest.splitlines()[0]
    assert b"shutting_down" in rest
    assert program.ended() == 0
