"""Answers that come as server-sent events: chunks, and responses, which may be resumed."""

from __future__ import annotations

import http.client
from collections.abc import Generator, Iterator
from typing import Any
from urllib.parse import quote

from .connections import Connections, await_last_chunk
from .errors import (
    LLMConnectionError,
    LLMProtocolError,
    LLMTimeoutError,
    StreamInterruptedError,
)
from .replies import api_error, parse_object, raise_for_status
from .responses import ENDED, Response, raise_for_end, response

RESPONSES = "/v1/responses"
PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each attempt to resume a response that has sent nothing since the last one."""

_LOST = (StreamInterruptedError, LLMConnectionError, LLMTimeoutError)


def place(id: str) -> str:
    """Returns the path of a response."""
    return f"{RESPONSES}/{quote(id, safe='')}"


def chunks(server: Connections, path: str, payload: bytes) -> Generator[dict[str, Any], None, None]:
    """Yields the chunks of a stream that ends with [DONE]. Raises LLMError's kinds."""
    with server.exchange("POST", path, payload) as answer:
        for data in _events(server, answer):
            if data == "[DONE]":
                await_last_chunk(answer)
                return
            chunk = parse_object(data, "an event of the stream")
            if "error" in chunk:
                raise api_error(200, chunk["error"])
            yield chunk
    raise _cut(server)


class ResponseStream(Iterator[str]):
    """Yields the text of a response in pieces, as they come.

    Sends the request when the first piece is asked for. `id` and `sequence_number`, that of the
    last event, are known once an event was there. `response` is the whole response, known at the
    end.

    If the connection of a background response is lost, asks for the rest by itself, up to five
    times in a row without a new event. If that does not help, raises StreamInterruptedError, and
    `LLMClient.resume` can go on later.
    """

    def __init__(
        self,
        server: Connections,
        *,
        payload: bytes | None = None,
        id: str | None = None,
        starting_after: int | None = None,
        resumes: bool = True,
    ) -> None:
        """Begins a response with `payload`, or goes on with the response `id`."""
        self.id = id
        self.sequence_number = starting_after
        self.response: Response | None = None
        self._server = server
        self._resumes = resumes
        self._pieces = self._follow(payload)

    def __next__(self) -> str:
        """Returns the next piece. Raises what `LLMClient.respond_stream` names."""
        return next(self._pieces)

    def __enter__(self) -> ResponseStream:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. The server then stops, unless the response is a background one."""
        self._pieces.close()

    def _follow(self, payload: bytes | None) -> Generator[str, None, None]:
        n_lost = 0
        while True:
            known = self.sequence_number
            try:
                yield from self._once(payload)
                break
            except _LOST as error:
                if self.id is None or not self._resumes or self._server.closed:
                    raise
                n_lost = 1 if self.sequence_number != known else n_lost + 1
                if n_lost > len(PAUSES_S):
                    place = f"{self.id!r}, starting_after={self.sequence_number}"
                    raise StreamInterruptedError(
                        f"{error}; resume({place}) goes on with it"
                    ) from error
            payload = None
            self._server.pause(PAUSES_S[n_lost - 1])
        if self.response is not None:
            raise_for_end(self.response)

    def _once(self, payload: bytes | None) -> Generator[str, None, None]:
        """Yields the pieces of one connection. Raises StreamInterruptedError if no end comes."""
        method, path = ("POST", RESPONSES) if payload is not None else ("GET", self._path())
        with self._server.exchange(method, path, payload) as answer:
            for data in _events(self._server, answer):
                event = parse_object(data, "an event of the stream") if data != "[DONE]" else {}
                if not event or not self._is_new(event):
                    continue
                yield from self._text(event)
                if self.response is not None:
                    await_last_chunk(answer)
                    return
        raise _cut(self._server)

    def _path(self) -> str:
        path = f"{place(self.id or '')}?stream=true"
        known = self.sequence_number
        return path if known is None else f"{path}&starting_after={known}"

    def _is_new(self, event: dict[str, Any]) -> bool:
        """Notes an event's number. Raises LLMProtocolError if events before it are missing."""
        if "error" in event:
            raise api_error(200, event["error"])
        number, known = event.get("sequence_number"), self.sequence_number
        if not isinstance(number, int):
            raise LLMProtocolError(f"an event of the stream has no sequence_number: {event}")
        if known is not None and number <= known:
            return False
        if known is not None and number > known + 1:
            raise LLMProtocolError(f"the events between {known} and {number} are missing")
        self.sequence_number = number
        return True

    def _text(self, event: dict[str, Any]) -> Iterator[str]:
        kind, about = event.get("type"), event.get("response")
        if kind == "error":
            raise api_error(200, event)
        if kind == "response.output_text.delta":
            text = event.get("delta")
            if not isinstance(text, str):
                raise LLMProtocolError(f"an event's text is not a string: {event}")
            if text:
                yield text
        if isinstance(about, dict):
            found = response(about)
            self.id = found.id
            if found.status in ENDED:
                self.response = found


def _events(server: Connections, answer: http.client.HTTPResponse) -> Iterator[str]:
    """Yields the data of a response's events. Raises LLMProtocolError if it is no stream."""
    kind = answer.headers.get_content_type()
    if answer.status != 200 or kind != "text/event-stream":
        raise_for_status(answer, server.read(answer))
        raise LLMProtocolError(f"{server.server()} sent {kind} instead of a stream")
    return server.events(answer)


def _cut(server: Connections) -> StreamInterruptedError:
    return StreamInterruptedError(f"{server.server()} ended the stream before its end")
