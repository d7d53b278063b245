"""The store of responses under the server: its settings, its start and end, and a slow disk."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from sheily_server.api.jobs import Job
from sheily_server.api.route import Asked, Route, Service, Whole
from sheily_server.api.routes import ROUTES
from sheily_server.backend.preflight import BACKGROUND
from sheily_server.errors import QueueFullError, StoreError
from sheily_server.web.app import SPARE_POSTS
from tests.server.conftest import Serve, Start
from tests.support.records import file_store, record
from tests.support.serving import Answer
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http


def test_health_says_where_responses_are_kept(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    for server, kind in ((serve(), "memory"), (serve(store=path), "file")):
        server.wait_for("ready")
        answer = server.get("/health")
        assert answer.json()["store"] == kind
        assert path.name.encode() not in answer.body


def test_the_program_makes_the_file_and_leaves_it_whole(start: Start, tmp_path: Path) -> None:
    program = start("--port=0", LLM_STORE="responses.db").listening()
    path = tmp_path / "responses.db"  # a relative path starts at the current folder
    assert program.health()["store"] == "file"
    assert path.with_name("responses.db-wal").exists()
    program.process.terminate()
    assert program.ended() == 0
    assert not path.with_name("responses.db-wal").exists()
    file_store(path).close()


def test_what_a_killed_server_was_working_on_has_failed(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    store = file_store(path)
    store.put(record("1", status="in_progress"))
    store.put(record("2"))
    store.close()
    program = start("--port=0", LLM_STORE=str(path), LLM_STORE_DAYS="3650").listening()
    program.process.send_signal(signal.SIGKILL)
    program.ended()
    assert "1 stored responses were left unfinished: they have failed" in program.log
    store = file_store(path)
    found = store.get("resp_1", "anna")
    assert found is not None
    assert found.status == "failed"
    assert b'"code":"server_error","message":"The server ended' in found.body
    assert store.get("resp_2", "anna") == record("2")
    store.close()


def test_a_file_that_is_refused_ends_the_start(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "notes\n.txt"
    path.write_text("a text")
    path.chmod(0o600)
    program = start("--port=0", LLM_STORE=str(path))
    assert program.ended() == 2
    (line,) = program.log.splitlines()
    assert line.startswith("sheily_server: LLM_STORE is ")
    assert "is not an SQLite database" in line
    assert path.read_text() == "a text"


def test_two_servers_do_not_share_a_file(start: Start) -> None:
    first = start("--port=0", LLM_STORE="responses.db").listening()
    second = start("--port=0", LLM_STORE="responses.db")
    assert second.ended() == 2
    assert "is in use by another process" in second.log
    assert first.get("/health").status == 200


def test_a_disk_that_hangs_stops_no_other_request(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for it takes the threads of POST requests, and no more of them."""

    def stored(service: Service, asked: Asked) -> Whole:
        service.store.get("resp_1", "")
        return Whole(b"{}")

    route = Route(
        id="stored", method="GET", path="/v1/stored", summary="", handle=stored, waits=True
    )
    monkeypatch.setattr("sheily_server.web.app.ROUTES", (*ROUTES, route))
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    config = server.config
    most = config.parallel + config.queue + config.background + SPARE_POSTS
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(server.get("/v1/stored")))
        for _ in range(most + 20)
    ]
    with server.store._lock:  # type: ignore[attr-defined]
        for each in threads:
            each.start()
        until(lambda: len(answers) == 20)  # those for which there was no place
        assert {answer.error()["code"] for answer in answers} == {"queue_full"}
        assert server.get("/health").status == 200
        assert server.get("/livez").status == 200
    for each in threads:
        each.join(WAIT)
    assert sorted(answer.status for answer in answers) == [200] * most + [429] * 20


def test_a_response_that_cannot_begin_leaves_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a disk that fails meanwhile change what its caller is told."""
    server = serve()
    server.wait_for("ready")
    jobs = server.app._service.jobs

    def full(job: Job, work: object, client: object) -> None:
        raise QueueFullError(1, 0, 2)

    def broken(id: str, owner: str) -> bool:
        raise StoreError("The disk is gone.")

    asked = {"input": "a", "background": True}
    monkeypatch.setattr(jobs, "start", full)
    for breaks in (False, True):
        with monkeypatch.context() as patch:
            if breaks:
                patch.setattr(server.store, "delete", broken)
            answer = server.ask("POST", "/v1/responses", asked)
        assert (answer.status, answer.error()["code"]) == (429, "queue_full")
        assert jobs.budget.take(BACKGROUND)
        jobs.budget.give_back(BACKGROUND)
