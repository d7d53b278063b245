"""Requests for which there is no room, which the thread that reads them answers itself; and answers
that are sent in one piece."""

from __future__ import annotations

import json
import re
import socket
import threading
from typing import Any

import pytest

from sheily_server.web.app import App
from sheily_server.web.connection import Channel
from tests.server.conftest import Serve
from tests.server.test_connections import COMPLETIONS, LIVE, connect, post
from tests.support.serving import Server, completion, read_until

HTTP_THREAD = "test-server"


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """The status of each answer, and whether the HTTP thread made it."""
    seen: list[tuple[int, bool]] = []
    respond = App._respond

    def watched(self: App, *arguments: Any) -> Any:
        response = respond(self, *arguments)
        seen.append((response.status_code, threading.current_thread().name == HTTP_THREAD))
        return response

    monkeypatch.setattr(App, "_respond", watched)
    return seen


def full(serve: Serve) -> Server:
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    return server


def statuses(connection: socket.socket, n: int) -> list[int]:
    """Of the next `n` answers, in order."""
    data = b""
    while len(found := re.findall(rb"HTTP/1\.1 (\d+) ", data)) < n:
        part = connection.recv(65536)
        assert part, data
        data += part
    return [int(status) for status in found]


def test_what_finds_no_room_takes_no_thread(serve: Serve, threads: list[tuple[int, bool]]) -> None:
    server = full(serve)
    with server.opened("hang"):
        server.wait_for_engine("submit")
        threads.clear()
        for path in ("/v1/chat/completions", "/chat/completions", "/v1/messages"):
            assert server.ask("POST", path, completion("hi", max_tokens=1)).status == 429
        assert server.ask("POST", "/v1/tokenize", b"no JSON").status == 429
        assert threads == [(429, True)] * 4
        threads.clear()
        assert server.get("/livez").status == 200
        assert server.ask("POST", "/v1/nothing", {}).status == 404
        assert server.ask("POST", "/v1/responses/resp_0/cancel").status == 404
        assert threads == [(200, False), (404, False), (404, False)]
    server.wait_for_engine("cancel")
    threads.clear()
    assert server.complete("hi").status == 200
    assert threads == [(200, False)]


def test_who_may_not_call_hears_that_first(serve: Serve) -> None:
    server = serve(parallel=1, queue=0, api_key=("key",))
    server.wait_for("ready")
    key = {"Authorization": "Bearer key", "Content-Type": "application/json"}
    hang = json.dumps(completion("hang")).encode()
    with connect(server.port) as connection:
        connection.sendall(post(COMPLETIONS, completion("hang"), Authorization="Bearer key"))
        server.wait_for_engine("submit")
        assert server.ask("POST", COMPLETIONS, hang).status == 401
        assert server.ask("POST", COMPLETIONS, hang, key).status == 429


def test_requests_behind_a_refused_one_are_answered_in_order(serve: Serve) -> None:
    server = full(serve)
    refused = post(COMPLETIONS, completion("hi"))
    with server.opened("hang") as running, connect(server.port) as connection:
        server.wait_for_engine("submit")
        for data, expected in (
            (refused + LIVE, [429, 200]),
            (refused + refused + LIVE, [429, 429, 200]),
            (LIVE + refused, [200, 429]),
        ):
            connection.sendall(data)
            assert statuses(connection, len(expected)) == expected
        running.close()
        server.wait_for_engine("cancel")
        connection.sendall(post(COMPLETIONS, completion("one two")))
        assert statuses(connection, 1) == [200]


def test_room_that_comes_between_two_looks_changes_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been refused stays so: the HTTP thread would wait for the answer."""
    server = full(serve)
    refusal = App.refusal

    def refused(self: App, *arguments: Any) -> Any:
        found = refusal(self, *arguments)
        if found is not None:
            running.close()
            server.wait_for_engine("cancel")
        return found

    monkeypatch.setattr(App, "refusal", refused)
    with server.opened("hang") as running:
        server.wait_for_engine("submit")
        assert server.complete("slow 5 0.01").status == 429
    assert server.complete("hi").status == 200


def test_an_old_client_s_connection_is_closed_behind_a_refusal(serve: Serve) -> None:
    server = full(serve)
    with server.opened("hang"), connect(server.port) as connection:
        server.wait_for_engine("submit")
        connection.sendall(post(COMPLETIONS, completion("hi"), "1.0"))
        found = b"".join(iter(lambda: connection.recv(65536), b""))
    assert found.startswith(b"HTTP/1.0 429 ")
    assert found.endswith(b"}")


def test_the_head_of_an_answer_is_sent_with_its_beginning(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    send = Channel.send

    def watched(self: Channel, data: bytes, **named: Any) -> Any:
        sent.append(bytes(data))
        return send(self, data, **named)

    server = full(serve)
    monkeypatch.setattr(Channel, "send", watched)
    server.get("/livez")
    with server.opened("hang", stream=True) as stream:
        read_until(stream, b"\n\n")
        assert server.complete("hi").status == 429
        assert server.ask("OPTIONS", COMPLETIONS).status == 204
    heads = [data for data in sent if data.startswith(b"HTTP/1.1")]
    assert len(heads) == 4
    live, _, refused, options = heads
    assert live.partition(b"\r\n\r\n")[2]
    assert refused.endswith(b"}")
    assert options.endswith(b"\r\n\r\n")
