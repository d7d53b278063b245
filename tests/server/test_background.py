"""Responses in the background: made whoever reads, followed by whoever asks, resumed anywhere."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sheily_server.errors import StoreFullError
from sheily_server.store.base import Record
from sheily_server.web import app
from tests.server.conftest import Serve, Start
from tests.server.test_kept_responses import bearer, get, id_in, opened, putting
from tests.support.responses import (
    LAST,
    PATH,
    checked,
    events_of,
    joined,
    post,
    respond,
    stream,
    text_of,
)
from tests.support.serving import Answer, Endpoint, Server, read_until
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http

SEED = 20260730
CUTS = 200


def begin(server: Server, input: str, **fields: Any) -> str:
    """Begins a response in the background; its id."""
    body = checked(post(server, input, background=True, **fields))
    assert (body["status"], body["background"], body["output"]) == ("queued", True, [])
    return str(body["id"])


def ended(server: Server, id: str) -> dict[str, Any]:
    """A response once it has ended."""

    def look() -> dict[str, Any] | None:
        body = checked(get(server, id))
        return None if body["status"] in ("queued", "in_progress") else body

    return until(look)


def replayed(server: Endpoint, id: str, after: int | None = None) -> list[dict[str, Any]]:
    rest = "?stream=true" + ("" if after is None else f"&starting_after={after}")
    answer = get(server, id, rest)
    assert answer.status == 200, answer.body
    return events_of(answer.body)


def cancel(server: Server, id: str) -> Answer:
    return server.ask("POST", f"{PATH}/{id}/cancel")


def test_a_response_is_made_while_nobody_waits(server: Server) -> None:
    id = begin(server, "one two three")
    body = ended(server, id)
    assert (body["id"], body["status"], text_of(body)) == (id, "completed", "one two three")
    assert body["usage"]["output_tokens"] == 3
    assert "one two" in text_of(respond(server, "show", previous_response_id=id))


def test_a_stream_in_the_background(server: Server) -> None:
    events = stream(server, "one two", background=True)
    assert [event["type"] for event in events[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    assert [e["response"]["status"] for e in events[:3]] == ["queued", "queued", "in_progress"]
    id = events[0]["response"]["id"]
    assert get(server, id).json() == events[-1]["response"]
    assert replayed(server, id) == events
    for after in range(len(events)):
        assert replayed(server, id, after) == events[after + 1 :]
    assert replayed(server, id, 10_000) == []


def test_one_that_was_not_streamed_can_be_streamed_later(server: Server) -> None:
    id = begin(server, "one two")
    ended(server, id)
    assert joined(replayed(server, id)) == "one two"


def test_a_lost_reader_changes_nothing(server: Server) -> None:
    with opened(server, input="slow 30 0.01", stream=True, background=True) as connection:
        id = id_in(read_until(connection, b"w1 "))
    body = ended(server, id)
    assert (body["status"], text_of(body)) == ("completed", "".join(f"w{i} " for i in range(30)))


def test_many_read_along(server: Server) -> None:
    id = begin(server, "slow 30 0.01")
    found: list[list[dict[str, Any]]] = []
    threads = [
        threading.Thread(target=lambda: found.append(replayed(server, id)), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(found) == 8
    assert all(events == found[0] for events in found)
    assert found[0][-1]["type"] == "response.completed"


# Resuming


def read_some(server: Server, request: bytes, n_bytes: int) -> bytes:
    """The body of an answer up to a number of its bytes, or to its end; then the line is cut."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        connection.sendall(request)
        head = read_until(connection, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        raw = head.partition(b"\r\n\r\n")[2]
        while len(body := unchunked(raw)) < n_bytes and not raw.endswith(b"\r\n0\r\n\r\n"):
            part = connection.recv(4096)
            if not part:
                break
            raw += part
    return body[:n_bytes]


def unchunked(raw: bytes) -> bytes:
    """The whole or begun chunks of a body."""
    body = b""
    while raw:
        size, line, raw = raw.partition(b"\r\n")
        if not line:
            break
        body += raw[: int(size, 16)]
        raw = raw[int(size, 16) + 2 :]
    return body


def request(method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def pieces(server: Server, drawn: random.Random, order: str, most: int) -> Iterator[bytes]:
    """What a reader gets of one stream whose line is cut at random bytes until it has all."""
    body = {"input": order, "stream": True, "background": True}
    part = read_some(server, request("POST", PATH, body), drawn.randint(1, most))
    yield part
    if b"\n\n" not in part:
        return  # not even the id came through
    seen = events_of(part)
    id = seen[0]["response"]["id"]
    while seen[-1]["type"] not in LAST:
        path = f"{PATH}/{id}?stream=true&starting_after={seen[-1]['sequence_number']}"
        part = read_some(server, request("GET", path), drawn.randint(1, most))
        yield part
        seen += events_of(part)


def test_a_stream_that_is_cut_anywhere_goes_on(server: Server) -> None:
    """At 200 random bytes in all, of streams that are being made and such that have ended."""
    drawn = random.Random(SEED)
    words = "".join(f"w{i} " for i in range(12))
    n_cuts = 0
    while n_cuts < CUTS:
        running = drawn.random() < 0.5
        order = "slow 12 0.004" if running else "a bé \u6c34\u2028 \U0001f600 c\n\nd" * 3
        parts = list(pieces(server, drawn, order, 9_000))
        n_cuts += len(parts) - 1
        events = [event for part in parts for event in events_of(part)]
        if not events:
            continue
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        if events[-1]["type"] == "response.completed":
            assert joined(events) == (words if running else order)
            assert text_of(events[-1]["response"]) == joined(events)
            assert replayed(server, events[0]["response"]["id"]) == events
    assert n_cuts >= CUTS


# Ending early


def test_a_response_is_cancelled(server: Server) -> None:
    id = begin(server, "hang-late")
    until(lambda: joined_so_far(server, id))
    body = checked(cancel(server, id))
    assert (body["status"], body["completed_at"], body["error"]) == ("cancelled", None, None)
    assert text_of(body) == "once"
    assert cancel(server, id).json() == body == get(server, id).json()
    last = replayed(server, id)[-1]
    assert (last["type"], last["response"]) == ("response.incomplete", body)


def joined_so_far(server: Server, id: str) -> str:
    job = server.app._service.jobs.find(id, "")
    assert job is not None
    assert job.log is not None
    return "".join(
        event["delta"] for data in job.log.all()[0] if "delta" in (event := json.loads(data))
    )


def test_a_reader_sees_that_it_was_cancelled(server: Server) -> None:
    with opened(server, input="hang-late", stream=True, background=True) as connection:
        id = id_in(read_until(connection, b"once"))
        cancel(server, id)
        rest = read_until(connection, b"\r\n0\r\n\r\n")
    assert b"event: response.incomplete\n" in rest
    assert b'"status":"cancelled"' in rest


def test_cancelling_what_has_ended_changes_nothing(server: Server) -> None:
    id = begin(server, "a")
    body = ended(server, id)
    assert cancel(server, id).json() == body
    assert cancel(server, respond(server, "a")["id"]).status == 400


def test_deleting_ends_it(server: Server) -> None:
    id = begin(server, "hang-late")
    assert server.ask("DELETE", f"{PATH}/{id}").status == 200
    assert get(server, id).status == 404
    until(lambda: server.app._service.jobs.running == 0)
    assert get(server, id).status == 404


def test_another_key_cannot_follow_or_cancel(serve: Serve) -> None:
    server = serve(api_key=("mine", "theirs"))
    server.wait_for("ready")
    body = post(server, "hang", background=True, headers=bearer("mine")).json()
    id = body["id"]
    for method, rest in [
        ("GET", ""),
        ("GET", "?stream=true"),
        ("GET", "/input_items"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ]:
        answer = server.ask(method, f"{PATH}/{id}{rest}", None, bearer("theirs"))
        assert answer.status == 404, (method, rest)
    answer = server.ask("POST", f"{PATH}/{id}/cancel", None, bearer("mine"))
    assert answer.json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("order", "code", "own"),
    [
        ("fail engine_error", "server_error", "engine_error"),
        ("crash", "server_error", "engine_crashed"),
        ("fail-early timeout", "server_error", "timeout"),
        ("too-long 300 1", "invalid_prompt", "context_length_exceeded"),
        ("refuse text.format No.", "invalid_prompt", "invalid_value"),
    ],
)
def test_failures_are_kept(serve: Serve, order: str, code: str, own: str) -> None:
    server = serve()
    server.wait_for("ready")
    id = begin(server, order)
    body = ended(server, id)
    assert (body["status"], body["error"]["code"]) == ("failed", code)
    assert body["sheily"]["error_code"] == own
    assert body["error"]["message"]
    events = replayed(server, id)
    assert (events[-1]["type"], events[-1]["response"]) == ("response.failed", body)


def test_what_it_asks_for_counts_as_its_conversation_does(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "BACKGROUND", 200_000)
    server = serve()
    server.wait_for("ready")
    for fields in ({"instructions": "i" * 120_000}, {"user": "u" * 120_000}):
        answer = post(server, "one", background=True, **fields)
        assert (answer.status, answer.error()["code"]) == (429, "queue_full")
    assert ended(server, begin(server, "one"))["status"] == "completed"


def test_it_has_a_time_limit_of_its_own(serve: Serve) -> None:
    server = serve(background_timeout=0.2, timeout=80.0)
    server.wait_for("ready")
    body = ended(server, begin(server, "hang-early"))
    assert "LLM_BACKGROUND_TIMEOUT" in body["error"]["message"]
    patient = serve(background_timeout=90.0, timeout=0.001)
    patient.wait_for("ready")
    assert post(patient, "hang").status == 504
    assert ended(patient, begin(patient, "slow 3 0.05"))["status"] == "completed"


def test_when_the_server_ends_it_has_failed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    server.wait_for("ready")
    puts: list[Record] = []
    putting(server, monkeypatch, puts.append)
    begin(server, "hang")
    until(lambda: server.engine_lines("submit "))
    server.supervisor.stop()
    server.app.close()
    assert [record.status for record in puts] == ["queued", "failed"]
    error = json.loads(puts[-1].body)["error"]
    assert error["code"] == "server_error"
    assert "shutting down" in error["message"] or "stopped" in error["message"]


def test_a_server_that_is_told_to_stop_ends_them(start: Start) -> None:
    program = start(LLM_DRAIN_TIMEOUT="0.2").listening()
    id = post(program, "hang-late", background=True).json()["id"]
    program.wait_for_engine("submit ")
    program.process.send_signal(signal.SIGTERM)
    assert program.ended() == 0
    assert re.search(rf"INFO {id} failed$", program.log, re.MULTILINE)


def test_a_killed_server_keeps_what_was_stored_and_what_ran_has_failed(
    start: Start, tmp_path: Path
) -> None:
    file = str(tmp_path / "responses.db")
    first = start(LLM_STORE=file).listening()
    whole = respond(first, "a b")
    streamed = stream(first, "c d", background=True)
    running = post(first, "hang-late", background=True).json()["id"]
    with opened(first, input="hang-late", stream=True) as connection:
        waited = id_in(read_until(connection, b"once"))
        first.wait_for_engine("submit ", 4)
        first.process.kill()
        first.ended()
    second = start(LLM_STORE=file).listening()
    assert get(second, whole["id"]).json() == whole
    id = streamed[0]["response"]["id"]
    assert replayed(second, id, 3) == streamed[4:]
    assert "a b" in text_of(respond(second, "show", previous_response_id=whole["id"]))
    for lost in (running, waited):
        body = checked(get(second, lost))
        assert (body["status"], body["error"]["code"]) == ("failed", "server_error")
        assert "server ended" in body["error"]["message"]
    (last,) = replayed(second, running, 4)
    assert (last["type"], last["sequence_number"]) == ("response.failed", 5)


# Bounds


def test_only_so_many_run(serve: Serve) -> None:
    server = serve(background=2)
    server.wait_for("ready")
    ids = [begin(server, "hang") for _ in range(2)]
    for streams in (False, True):
        answer = post(server, "a", background=True, stream=streams)
        assert (answer.status, answer.error()["code"]) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) > 0
    assert respond(server, "others are answered")["status"] == "completed"
    cancel(server, ids[0])
    until(lambda: post(server, "a", background=True).status == 200)


def test_only_so_many_come_back(serve: Serve) -> None:
    server = serve(background=1)
    server.wait_for("ready")
    id = begin(server, "hang-late")
    path = f"{PATH}/{id}?stream=true"
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        connection.sendall(request("GET", path))
        read_until(connection, b"once")
        assert get(server, id, "?stream=true").status == 429
        assert get(server, id).status == 200
        assert server.health()["status"] == "ok"
    until(lambda: get_begins(server, path))
    cancel(server, id)


def get_begins(server: Server, path: str) -> bool:
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        connection.sendall(request("GET", path))
        return read_until(connection, b"\r\n").startswith(b"HTTP/1.1 200")


def test_none_in_the_background(serve: Serve) -> None:
    server = serve(background=0)
    server.wait_for("ready")
    answer = post(server, "a", background=True)
    assert (answer.status, answer.error()["param"]) == (400, "background")
    assert respond(server, "a")["status"] == "completed"


def test_what_is_not_kept_cannot_be_made_in_the_background(server: Server) -> None:
    answer = post(server, "a", background=True, store=False)
    assert (answer.status, answer.error()["param"]) == (400, "background")


def test_a_stream_too_long_to_be_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sheily_server.api.jobs.EventLog.__init__.__defaults__", (9_000,))
    events = events_of(post(server, "slow 90 0", background=True, stream=True).body)
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "stream_too_long")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    id = events[0]["response"]["id"]
    body = ended(server, id)
    assert text_of(body) == "".join(f"w{i} " for i in range(90))
    assert replayed(server, id) == events


def test_one_that_cannot_be_stored_is_there_for_a_while(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(background=2)
    server.wait_for("ready")

    def full(record: Record) -> None:
        raise StoreFullError("The disk is full.")

    putting(server, monkeypatch, full)
    ids = []
    for i in range(3):
        ids.append(begin(server, f"answer {i}"))
        body = ended(server, ids[-1])
        assert body["sheily"]["stored"] is False
        assert body["sheily"]["not_stored_because"] == "The disk is full."
        assert replayed(server, ids[-1])[-1]["response"] == body
        until(lambda: server.app._service.jobs.running == 0)
    assert [get(server, id).status for id in ids] == [404, 200, 200]
    assert server.ask("DELETE", f"{PATH}/{ids[1]}").status == 200
    assert get(server, ids[1]).status == 404
