"""Plain requests to a real server, for what no client library would send."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from tests.support.real_server import RealServer

WAIT = 100.0
"""Seconds after which a request is given up."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any

    @property
    def error(self) -> Any:
        assert set(self.body) == {"error"}
        return self.body["error"]

    @property
    def choice(self) -> Any:
        """The only choice of a completion."""
        assert self.status == 200, self.body
        [choice] = self.body["choices"]
        return choice

    @property
    def text(self) -> str:
        content: str = self.choice["message"]["content"]
        return content


def post(server: RealServer, path: str, body: Any) -> Answer:
    status, data = post_raw(server, path, json.dumps(body).encode())
    return Answer(status, json.loads(data))


def post_raw(server: RealServer, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=WAIT)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def complete(server: RealServer, text: str = "go", **fields: Any) -> Answer:
    """POST /v1/chat/completions with one user message, unless `messages` are given."""
    body = {"messages": [{"role": "user", "content": text}]} | fields
    return post(server, "/v1/chat/completions", body)


def stream(server: RealServer, text: str = "go", **fields: Any) -> list[Any]:
    """The chunks of a stream, without its [DONE]."""
    body = {"messages": [{"role": "user", "content": text}], "stream": True} | fields
    status, data = post_raw(server, "/v1/chat/completions", json.dumps(body).encode())
    assert status == 200, data
    *events, done, end = data.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(e.removeprefix("data: ")) for e in events if not e.startswith(":")]


def tokens_of(server: RealServer, text: str) -> list[int]:
    tokens: list[int] = post(server, "/tokenize", {"text": text}).body["tokens"]
    return tokens


def assert_alive(server: RealServer) -> None:
    """The engine is the one that was started, has nothing left to do, and answers."""
    health = server.health()
    assert (health["state"], health["engine_restarts"]) == ("ready", 0)
    assert health["active_requests"] == 0
    assert complete(server, max_tokens=1).status == 200
