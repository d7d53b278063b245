"""An LLM server whose answers a test writes: /health, /metrics, /tokenize, and responses that are
made in the background. It keeps each as the real one does, so that streams can be read again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support import fake_server
from tests.support.fake_server import WAIT, FakeServer, Handler

HEALTH = {
    "state": "ready",
    "model": "a-model",
    "context_size": 4096,
    "reason": None,
    "progress": None,
    "parallel": 4,
    "active_requests": 0,
    "engine_restarts": 0,
}


@dataclass
class Say:
    """What is answered: pieces of text, and how it ends. `hold` is waited for before piece number
    `hold_at`; a response that is held for ever ends when it is cancelled. Each piece takes `pace`
    seconds."""

    pieces: list[str] = field(default_factory=list)
    status: str = "completed"
    error: dict[str, Any] | None = None
    hold: threading.Event | None = None
    hold_at: int = 1
    pace: float = 0.0
    progress: list[dict[str, Any]] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)


class Response:
    """One response that is being made, and all events of its stream."""

    def __init__(self, id: str, user: str | None, say: Say) -> None:
        self.id = id
        self.user = user
        self.events: list[dict[str, Any]] = []
        self.ended = False
        self.cancelled = threading.Event()
        self._changed = threading.Condition()
        self._say = say
        self._text = ""
        self._status = "queued"

    def body(self) -> dict[str, Any]:
        running = self._status in ("queued", "in_progress")
        part = {"type": "output_text", "text": self._text, "annotations": []}
        output = [] if running else [{"type": "message", "role": "assistant", "content": [part]}]
        error = {"code": "server_error", **self._say.error} if self._say.error else None
        return {
            "id": self.id,
            "object": "response",
            "status": self._status,
            "model": "a-model",
            "user": self.user,
            "background": True,
            "output": output,
            "error": error if self._status == "failed" else None,
            "sheily": {},
            **self._say.fields,
        }

    def make(self) -> None:
        """Writes all events; on a thread of its own."""
        self._add("response.created", response=self.body())
        self._add("response.queued", response=self.body())
        for each in self._say.progress:
            self._add("response.prompt_progress", **each)
        self._status = "in_progress"
        self._add("response.in_progress", response=self.body())
        for i, piece in enumerate(self._say.pieces):
            if i == self._say.hold_at and not self._wait():
                return
            time.sleep(self._say.pace)
            self._text += piece
            self._add("response.output_text.delta", delta=piece, output_index=0, content_index=0)
        if self._say.hold_at >= len(self._say.pieces) and not self._wait():
            return
        self._end(self._say.status)

    def _wait(self) -> bool:
        """Waits for the test; false if the response was cancelled meanwhile."""
        hold = self._say.hold
        while hold is not None and not hold.wait(0.02):
            if self.cancelled.is_set():
                self._end("cancelled")
                return False
        return True

    def _end(self, status: str) -> None:
        self._status = status
        kinds = {"completed": "response.completed", "failed": "response.failed"}
        with self._changed:
            self.ended = True
        self._add(kinds.get(status, "response.incomplete"), response=self.body())

    def _add(self, type: str, **fields: Any) -> None:
        with self._changed:
            number = len(self.events)
            self.events.append({"type": type, "sequence_number": number, **fields})
            self._changed.notify_all()

    def follow(self, after: int) -> Iterator[dict[str, Any]]:
        """Yields the events behind number `after` as they come."""
        while True:
            with self._changed:
                while len(self.events) <= after + 1 and not self._over():
                    assert self._changed.wait(WAIT)
                found, over = self.events[after + 1 :], self._over()
            yield from found
            after += len(found)
            if over:
                return

    def _over(self) -> bool:
        ends = ("response.completed", "response.incomplete", "response.failed")
        return bool(self.events) and self.events[-1]["type"] in ends


class ScriptedLlm:
    """`say` is what the next responses answer, `refuse` an HTTP refusal instead, `health` what the
    server says of itself (with `status`)."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.say = Say(["Hello."])
        self.refuse: fake_server.Script | None = None
        self.health: dict[str, Any] = dict(HEALTH)
        self.status = 200
        self.metrics = ""
        self.away = False
        """True: nothing that is asked for gets an answer."""
        self.count: Callable[[str], int] = lambda text: len(text) // 4
        self.responses: dict[str, Response] = {}
        self.deleted: list[str] = []
        self.keys: dict[str, Response] = {}
        self._lock = threading.Lock()
        self.drop_streams = threading.Event()
        """Set: streams break off, and nothing is told."""
        server.script = self._script

    @property
    def url(self) -> str:
        return self.server.url

    def asked(self) -> list[dict[str, Any]]:
        """The bodies of the requests for a response."""
        return [
            seen.json()
            for seen in self.server.seen
            if seen.method == "POST" and seen.path == "/v1/responses"
        ]

    def _script(self, handler: Handler) -> None:
        if self.away:
            return
        url = urlsplit(handler.path)
        parts = url.path.strip("/").split("/")
        if url.path == "/health":
            fake_server.answer(self.status, self.health)(handler)
        elif url.path == "/metrics":
            fake_server.answer(200, self.metrics.encode())(handler)
        elif url.path == "/v1/tokenize":
            text = handler.request_seen.json()
            n_tokens = self.count(text.get("text") or "")
            body = {"count": n_tokens, "tokens": list(range(n_tokens))}
            fake_server.answer(200, body)(handler)
        elif parts[:2] == ["v1", "responses"]:
            self._responses(handler, parts[2:], parse_qs(url.query))
        else:
            fake_server.answer(404, {"error": {"message": "No route.", "code": "x"}})(handler)

    def _responses(self, handler: Handler, parts: list[str], query: dict[str, list[str]]) -> None:
        if not parts:
            if self.refuse is not None:
                self.refuse(handler)
            else:
                self._stream(handler, self._begin(handler), -1)
            return
        found = self.responses.get(parts[0])
        if found is None:
            message = f"Response with id {parts[0]!r} not found."
            error = {"error": {"message": message, "code": "response_not_found"}}
            fake_server.answer(404, error)(handler)
        elif handler.command == "DELETE":
            self.deleted.append(found.id)
            del self.responses[found.id]
            body = {"id": found.id, "object": "response", "deleted": True}
            fake_server.answer(200, body)(handler)
        elif parts[1:] == ["cancel"]:
            found.cancelled.set()
            fake_server.answer(200, found.body())(handler)
        elif query.get("stream") == ["true"]:
            after = int(query.get("starting_after", ["-1"])[0])
            self._stream(handler, found, after)
        else:
            fake_server.answer(200, found.body())(handler)

    def _begin(self, handler: Handler) -> Response:
        key = handler.request_seen.headers.get("idempotency-key", "")
        with self._lock:
            if key and key in self.keys and self.keys[key].id in self.responses:
                return self.keys[key]
            id = f"resp_{len(self.keys):032x}"
            made = Response(id, handler.request_seen.json().get("user"), self.say)
            self.responses[id] = self.keys[key or id] = made
        threading.Thread(target=made.make, daemon=True).start()
        return made

    def _stream(self, handler: Handler, response: Response, after: int) -> None:
        handler.events()
        for event in response.follow(after):
            if self.drop_streams.is_set():
                return
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.write(b"0\r\n\r\n")


@contextmanager
def running() -> Iterator[ScriptedLlm]:
    """A scripted LLM server that answers while the block runs."""
    with fake_server.running() as server:
        llm = ScriptedLlm(server)
        try:
            yield llm
        finally:
            for each in llm.responses.values():
                each.cancelled.set()
