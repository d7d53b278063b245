"""A scripted server on the loopback for the client's tests; it can answer wrongly on demand."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

WAIT = 100.0
"""Seconds after which a test gives up on another thread; no test takes them when it passes."""

Script = Callable[["Handler"], None]


@dataclass
class Seen:
    """A request as the server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.body))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer
    request_seen: Seen

    def do_GET(self) -> None:
        self._run()

    def do_POST(self) -> None:
        self._run()

    def do_DELETE(self) -> None:
        self._run()

    def _run(self) -> None:
        self.close_connection = True
        body = b""
        if not self.server.leave_bodies_unread:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_seen = Seen(self.command, self.path, headers, body)
        self.server.seen.append(self.request_seen)
        self.server.script(self)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        # Without it a client may send its next request here, into a connection that is closing.
        self.send_header("Connection", "close")
        self.end_headers()

    def events(self, *pieces: bytes, chunked: bool = True) -> None:
        """A stream's head and these pieces, each in a chunk of its own; the end is not sent."""
        headers = {"Content-Type": "text/event-stream; charset=utf-8"}
        self.head(200, headers | ({"Transfer-Encoding": "chunked"} if chunked else {}))
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)

    def wait_for_hangup(self) -> None:
        self.connection.settimeout(WAIT)
        assert self.connection.recv(1) == b""


class FakeServer(ThreadingHTTPServer):
    """Answers every request as `script` says."""

    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[Seen] = []
        self.script: Script = answer(200, {})
        self.leave_bodies_unread = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            raise AssertionError("the fake server failed") from error


@contextmanager
def running() -> Iterator[FakeServer]:
    """A server that answers while the block runs."""
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def answer(status: int, body: object, **headers: str) -> Script:
    """Send a body, as JSON unless it is bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def script(handler: Handler) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(status, {"Content-Length": str(len(data)), **named})
        handler.wfile.write(data)

    return script


def raw(data: bytes) -> Script:
    """Send these bytes and nothing else."""

    def script(handler: Handler) -> None:
        handler.wfile.write(data)

    return script


def stream(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> Script:
    """Send an event stream, each piece in a chunk of its own, and then `end` as it is."""

    def script(handler: Handler) -> None:
        handler.events(*pieces)
        handler.wfile.write(end)

    return script


def completion(content: str | None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "chatcmpl-1", "choices": [choice], "usage": usage, **more}


def event(content: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}], **more}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
