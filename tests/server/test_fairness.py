"""A full queue and who is in it: who gives way, and who counts as whom."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from sheily_server.clients import digest
from tests.server.conftest import Serve
from tests.support.serving import Answer, Server, completion, read_until
from tests.support.waiting import WAIT, until

CHAT = "/v1/chat/completions"
PROXY = {"trusted_proxies": (ip_network("127.0.0.1"),)}
FLOOD, PERSON = "203.0.113.1", "203.0.113.2"


def ask(server: Server, text: str, peer: str, path: str = CHAT, **fields: Any) -> Answer:
    """Asks as a proxy does for a peer."""
    headers = {"X-Forwarded-For": peer}
    return server.ask("POST", path, completion(text, **fields), headers)


@contextmanager
def asking(server: Server, text: str, peer: str, **fields: Any) -> Iterator[socket.socket]:
    """A connection on which a peer has asked, and nothing was read yet."""
    body = json.dumps(completion(text, **fields)).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {peer}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        connection.sendall(head.encode() + body)
        yield connection


def queued(server: Server) -> int:
    found: int = server.health()["queued"]
    return found


def test_a_flood_of_500_keeps_a_place_for_a_person(serve: Serve) -> None:
    server = serve(parallel=2, queue=6, **PROXY)
    server.wait_for("ready")
    with ExitStack() as stack:
        for i in range(500):
            stack.enter_context(asking(server, "wait", FLOOD, user=f"user {i % 3}"))
        until(lambda: queued(server) == 8)
        for _ in range(3):
            assert ask(server, "hello", PERSON).status == 200
    until(lambda: queued(server) == 0)


def test_invented_users_win_no_place(serve: Serve) -> None:
    """They take places from each other, and none from who waits beside them."""
    server = serve(parallel=1, queue=4, **PROXY)
    server.wait_for("ready")
    with ExitStack() as stack:
        stack.enter_context(asking(server, "wait", PERSON))
        server.wait_for_engine("submit", 1)
        for i in range(2, 200):
            stack.enter_context(asking(server, "wait", FLOOD, user=f"user {i}"))
            server.wait_for_engine("submit", i)
        server.wait_for_engine("cancel", 194)
        assert "cancel 1" not in server.engine_lines("cancel")
        assert queued(server) == 5


def test_who_gives_way_is_told_as_by_a_full_queue(serve: Serve) -> None:
    server = serve(parallel=1, queue=1, **PROXY)
    server.wait_for("ready")
    with asking(server, "hang", FLOOD), asking(server, "wait", FLOOD) as waits:
        server.wait_for_engine("submit", 2)
        assert ask(server, "hello", PERSON).status == 200
        told = read_until(waits, b'"queue_full"')
        assert told.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: " in told
        assert server.engine_lines("cancel") == ["cancel 2"]


def test_a_stream_that_gives_way_is_told_with_an_event(serve: Serve) -> None:
    server = serve(parallel=1, queue=1, **PROXY)
    server.wait_for("ready")
    with asking(server, "hang", FLOOD), asking(server, "wait", FLOOD, stream=True) as waits:
        read_until(waits, b"\r\n\r\n")
        assert ask(server, "hello", PERSON).status == 200
        assert b'data: {"error":' in read_until(waits, b'"queue_full"')


def test_what_a_stranger_forwards_counts_for_nothing(serve: Serve) -> None:
    server = serve(parallel=1, queue=1)
    server.wait_for("ready")
    with asking(server, "hang", FLOOD), asking(server, "wait", FLOOD):
        server.wait_for_engine("submit", 2)
        for i in range(20):
            assert ask(server, "hello", f"203.0.113.{i}").status == 429


def test_a_user_behind_the_same_peer_has_a_place(serve: Serve) -> None:
    server = serve(parallel=1, queue=3, **PROXY)
    server.wait_for("ready")
    with ExitStack() as stack:
        for n in range(1, 5):
            stack.enter_context(asking(server, "wait", FLOOD, user="script"))
            server.wait_for_engine("submit", n)
        assert ask(server, "hello", FLOOD, user="script").status == 429
        assert ask(server, "hello", FLOOD, user="anna").status == 200


def shown(answer: Answer, text: str) -> list[str]:
    """The client in what the engine got, which is the answer to `show`."""
    assert answer.status == 200, answer.body
    client: list[str] = json.loads(text)["client"]
    return client


@pytest.mark.parametrize(
    ("path", "fields", "user"),
    [
        (CHAT, {}, ""),
        (CHAT, {"user": "anna"}, "anna"),
        (CHAT, {"user": "ben", "safety_identifier": "anna"}, "anna"),
        (CHAT, {"user": "x" * 100_000}, "x" * 100_000),
        ("/v1/messages", {"metadata": {"user_id": "anna"}, "max_tokens": 50}, "anna"),
        ("/chat", {"user": "anna"}, "anna"),
    ],
)
def test_a_client_is_its_key_peer_and_user(
    serve: Serve, path: str, fields: dict[str, Any], user: str
) -> None:
    server = serve(api_key=("one", "other"), **PROXY)
    server.wait_for("ready")
    clients = []
    for key, peer in (("one", FLOOD), ("one", PERSON), ("other", FLOOD)):
        headers = {"X-Forwarded-For": peer, "Authorization": f"Bearer {key}"}
        answer = server.ask("POST", path, completion("show", **fields), headers)
        body = answer.json()
        if path == CHAT:
            text = body["choices"][0]["message"]["content"]
        else:
            text = body["response"] if path == "/chat" else body["content"][0]["text"]
        clients.append(shown(answer, text))
    one, neighbour, other = clients
    assert one[1] == other[1] == digest(FLOOD)
    assert neighbour[1] == digest(PERSON)
    assert one[0] == neighbour[0] != other[0]
    assert {client[2] for client in clients} == {digest(user)}


def test_responses_say_their_user_too_also_in_the_background(serve: Serve) -> None:
    server = serve(**PROXY)
    server.wait_for("ready")
    headers = {"X-Forwarded-For": PERSON}
    body = {"input": "show", "safety_identifier": "anna"}
    found = server.ask("POST", "/v1/responses", body, headers).json()
    begun = server.ask("POST", "/v1/responses", {**body, "background": True}, headers).json()

    def ended() -> Any:
        response = server.get(f"/v1/responses/{begun['id']}").json()
        return response if response["status"] == "completed" else None

    for response in (found, until(ended)):
        text = response["output"][0]["content"][0]["text"]
        assert json.loads(text)["client"] == ["", digest(PERSON), digest("anna")]
