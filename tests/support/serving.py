"""A server in this process, on a free port, over a fake engine; and what the tests ask it with."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sheily_server.api.responses.kept import interrupted
from sheily_server.backend.supervisor import Supervisor
from sheily_server.config import Config
from sheily_server.store.opening import open_store
from sheily_server.web import server as http_server
from sheily_server.web.app import App
from tests.support import fake_engine
from tests.support.waiting import WAIT, until


@dataclass
class Answer:
    """A whole response; the names of its headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """The error object, which has its four fields and nothing beside it."""
        body = self.json()
        assert set(body) == {"error"}
        error: dict[str, Any] = body["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert error["type"]
        return error

    def events(self) -> list[Any]:
        """The data of a stream's events: JSON, or the text `[DONE]`; comments are left out."""
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8"
        return parse_events(self.body)

    def named_events(self) -> list[Any]:
        """The data of a stream whose events have names, those of Anthropic's API: each has the type
        in its data. Comments are left out."""
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert self.body.endswith(b"\n\n")
        found: list[Any] = []
        for block in self.body.decode().removesuffix("\n\n").split("\n\n"):
            if not block.startswith(":"):
                name, data = block.split("\n")
                found.append(json.loads(data.removeprefix("data: ")))
                assert name == f"event: {found[-1]['type']}"
        return found


def read_answer(response: http.client.HTTPResponse) -> Answer:
    content = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, content)


def parse_events(body: bytes) -> list[Any]:
    assert body.endswith(b"\n\n")
    found: list[Any] = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        assert "\n" not in block
        if block.startswith(":"):
            continue
        data = block.removeprefix("data: ")
        found.append(data if data == "[DONE]" else json.loads(data))
    return found


@dataclass
class Endpoint:
    """A server's address, whichever process it is in, and its fake engine's log."""

    port: int
    engine_log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Sends a request, whose body may be what is to be JSON, and reads the whole answer. With
        POST it says that it is JSON, unless `headers` say otherwise."""
        kind = {"Content-Type": "application/json"} if method == "POST" else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, kind | (headers or {}))
            response = connection.getresponse()
            return read_answer(response)
        finally:
            connection.close()

    def raw(self, data: bytes) -> Answer:
        """Sends bytes and reads the answer to the request that begins with them."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT) as connection:
            connection.sendall(data)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return read_answer(response)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def complete(self, text: str, **fields: Any) -> Answer:
        """POST /v1/chat/completions with one user message."""
        return self.ask("POST", "/v1/chat/completions", completion(text, **fields))

    def message(self, text: str, **fields: Any) -> Answer:
        """POST /v1/messages with one user message."""
        return self.ask("POST", "/v1/messages", completion(text, **{"max_tokens": 50, **fields}))

    def simple(self, **fields: Any) -> Answer:
        """POST /chat."""
        return self.ask("POST", "/chat", fields)

    def health(self) -> dict[str, Any]:
        body: dict[str, Any] = self.get("/health").json()
        return body

    def wait_for(self, state: str) -> dict[str, Any]:
        """The body of /health once it names this state."""
        return until(lambda: found if (found := self.health())["state"] == state else None)

    @contextmanager
    def opened(
        self, text: str, path: str = "/v1/chat/completions", **fields: Any
    ) -> Iterator[socket.socket]:
        """A connection on which an answer was asked for, and nothing was read yet."""
        body = json.dumps(completion(text, **fields)).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT) as connection:
            connection.sendall(head.encode() + body)
            yield connection

    def engine_lines(self, beginning: str) -> list[str]:
        """What the fake engine has logged so far and begins so."""
        lines = self.engine_log.read_text().splitlines() if self.engine_log.exists() else []
        return [line for line in lines if line.startswith(beginning)]

    def engine_pid(self) -> int:
        """The engine that was started last."""
        return int(until(lambda: self.engine_lines("start "))[-1].split()[1])

    def wait_for_engine(self, beginning: str, count: int = 1) -> None:
        """Returns once that many lines of the engine's log begin so."""
        until(lambda: len(self.engine_lines(beginning)) >= count)


def completion(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def read_until(connection: socket.socket, words: bytes) -> bytes:
    """What a connection sends, up to where these words are in it."""
    data = b""
    while words not in data:
        part = connection.recv(65536)
        assert part, data
        data += part
    return data


def read_to_end(connection: socket.socket) -> bytes:
    """What a connection still sends, until the other side closes it."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def engine_command(log: Path, *arguments: str) -> list[str]:
    return [*fake_engine.COMMAND, "--log", str(log), *arguments]


class Server(Endpoint):
    """waitress in a thread, with the settings of `sheily_server.__main__`."""

    def __init__(self, config: Config, engine_log: Path, *arguments: str) -> None:
        self.config = config
        self.supervisor = Supervisor(config, command=engine_command(engine_log, *arguments))
        self.store = open_store(
            config.store,
            days=config.store_days,
            megabytes=config.store_limit_mb,
            interrupted=interrupted,
        )
        self.app = App(config, self.supervisor, self.store)
        self._server = http_server.create(self.app, config)
        super().__init__(int(self._server.effective_port), engine_log)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-server")
        self._thread.start()
        self.supervisor.start()

    def _run(self) -> None:
        server = self._server
        while not self._stopping.is_set():
            server.asyncore.loop(timeout=1, map=server._map, use_poll=True, count=1)
        server.close()
        server.asyncore.close_all(server._map)

    def stop(self) -> None:
        self.supervisor.stop()
        self.app.close()
        self._server.task_dispatcher.shutdown(timeout=WAIT)
        self._stopping.set()
        with suppress(OSError):  # the loop may have ended by itself, and closed its pipe
            self._server.pull_trigger()
        self._thread.join(WAIT)
        self.store.close()
