"""Parses incoming HTTP requests. Refuses those that two parsers could read differently, and keeps
no body that nobody will read."""

from __future__ import annotations

import io
import time
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, Error

from ..api.routes import dialect_of
from ..errors import ServiceError
from . import errors
from .app import MAX_BODY_BYTES, App
from .errors import HttpError
from .guard import GivenKeys
from .peers import Sender

MAX_HEAD_BYTES = 16_384
MAX_CHUNK_LINE_BYTES = 4096
"""Limit on the lines between the chunks of a body, and on the trailer after them."""

_PROBLEMS = {
    413: ("request_too_large", f"The body is larger than {MAX_BODY_BYTES} bytes."),
    431: ("headers_too_large", f"The request's head is larger than {MAX_HEAD_BYTES} bytes."),
    408: (
        "request_incomplete",
        "The request was not complete, and its connection was needed for others.",
    ),
    501: ("not_implemented", "The only Transfer-Encoding that is supported is chunked."),
}


class _Body:
    """A body in memory. Past `most` bytes, only its length is kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._length = 0
        self._file = io.BytesIO()
        self.kept = 0
        """Bytes in memory."""

    def append(self, data: bytes) -> None:
        self._length += len(data)
        if self._length <= self._most:
            self.kept += self._file.write(data)
        elif self.kept:
            self.close()

    def __len__(self) -> int:
        return self._length

    def getfile(self) -> io.BytesIO:
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file = io.BytesIO()
        self.kept = 0


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """A request being received. Records when it began and when it was complete, and keeps no body
    that nobody will read. Refuses what two parsers could take for different requests, and what
    waitress would read without a limit."""

    completed: bool
    error: Any
    path = ""
    """Default for unreadable requests: waitress logs it when such a client leaves too early."""

    def __init__(self, adj: Any, app: App) -> None:
        super().__init__(adj)
        self._app = app
        self._body = _Body(0)
        self.first_byte = self.began = time.monotonic()
        """`began` is moved forward while a delay is not the client's fault."""
        self.arrived: float | None = None
        self.refusal: ServiceError | None = None
        """What the HTTP thread answers the complete request with, if there is no room for it."""

    @property
    def held(self) -> int:
        """Bytes of the body in memory."""
        return self._body.kept

    def sender(self, address: str) -> Sender:
        """Returns who sent the request over a connection from an address."""
        header = self.headers.get
        return Sender(self._keys(), address, header("X_FORWARDED_FOR", ""))

    def body(self, most: int) -> bytes:
        """Returns the body; nothing if it is longer, or nobody will read it."""
        return self._body.getfile().read() if self.held <= most else b""

    def _keys(self) -> GivenKeys:
        header = self.headers.get
        return GivenKeys(header("AUTHORIZATION"), header("X_API_KEY"))

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        body = self.body_rcv
        if isinstance(body, ChunkedReceiver) and not self.completed:
            rest = max(len(body.control_line), len(body.trailer))
            if rest > MAX_CHUNK_LINE_BYTES:
                self.error = BadRequest("A chunk's line is too long")
                self.completed = True
        if self.error is not None or body is None:
            self.expect_continue = False  # else waitress would wait for a body
        if self.completed:
            self.arrived = time.monotonic()
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError:  # a length of thousands of digits, or a broken address
            raise ParsingError("A number or an address cannot be read") from None
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if self.version != "1.1" and "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("Transfer-Encoding is for HTTP/1.1")
        if self.body_rcv is not None:
            self._body = _Body(MAX_BODY_BYTES if self._is_welcome() else 0)
            self.body_rcv.buf = self._body

    def _is_welcome(self) -> bool:
        """Whether the app would read this body. If not, the app itself answers why."""
        return self.content_length <= MAX_BODY_BYTES and self._app.may_call(
            self.command, self.path, self.headers.get("HOST"), self._keys()
        )


class RefusalTask(ErrorTask):  # type: ignore[misc]
    """Answers what never became a request with an error like the app's. Closes the connection."""

    def execute(self) -> None:
        problem = self.request.error
        dialect = dialect_of(self.request.path or "")
        body = errors.body(_error(problem.code, problem.body), dialect)
        self.status = f"{problem.code} {problem.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


def _error(status: int, detail: str) -> HttpError:
    if status == 500:
        return HttpError(status, f"{detail}.", "internal_error")
    unreadable = f"The HTTP request cannot be parsed: {detail[:200]}."
    code, message = _PROBLEMS.get(status, ("invalid_http", unreadable))
    return HttpError(status, message, code)


class Incomplete(Error):  # type: ignore[misc]
    code = 408
    reason = "Request Timeout"
