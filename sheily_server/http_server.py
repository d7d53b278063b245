"""The HTTP server under the app: waitress, with the settings and the limits that this service
needs. Knows connections and broken HTTP; knows nothing of routes."""

from __future__ import annotations

import functools
import time
from typing import Any

import msgspec
import waitress
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.task import ErrorTask
from waitress.utilities import BadRequest

from .app import MAX_BODY_BYTES, App
from .config import Config
from .errors import ApiError

# Threads beside one for each request that runs or waits: /health and refusals are answered under
# any load.
SPARE_THREADS = 8
CONNECTIONS = 512
MAX_HEAD_BYTES = 16_384
# What stands between the chunks of a body, and behind them.
MAX_CHUNK_LINE_BYTES = 4096

REQUEST_S = 20.0
"""Seconds in which a request has to be there, head and body, from its first byte on."""

IDLE_S = 60.0
"""Seconds after which a connection is closed on which nothing is asked, or nothing is read."""

STOOD_STILL_S = 10.0
"""Seconds between two looks at the connections after which no connection is to blame."""

CROWDED_S = 2.0
"""What that is where every connection is taken."""

_PROBLEMS = {
    413: ("request_too_large", f"The body is larger than {MAX_BODY_BYTES} bytes."),
    431: ("headers_too_large", f"The request's head is larger than {MAX_HEAD_BYTES} bytes."),
    501: ("not_implemented", "No Transfer-Encoding but chunked is taken."),
}


def create(app: App, config: Config) -> Any:
    """A bound, listening waitress server. Raises OSError or ValueError for an address it cannot
    have.

    Admission is the app's, so there is a thread for everything that it may admit. The look-ahead is
    what makes `waitress.client_disconnected` tell at once. Bodies a few times too large are read to
    their end and refused by the app; larger ones are cut off, so that the answer may be lost.
    """
    server = waitress.create_server(
        app,
        host=config.host,
        port=config.port,
        threads=config.parallel + config.queue + SPARE_THREADS,
        channel_request_lookahead=1,
        asyncore_use_poll=True,
        connection_limit=CONNECTIONS,
        cleanup_interval=1,
        max_request_body_size=4 * MAX_BODY_BYTES,
        max_request_header_size=MAX_HEAD_BYTES,
        ident=None,
    )
    for listener in list(_sockets(server).values()):
        if hasattr(listener, "active_channels"):
            listener.channel_class = _Channel
            listener.maintenance = functools.partial(_close_overdue, listener)
    return server


def flush(server: Any, seconds: float = 2.0) -> None:
    """Waits until every answer is sent, for so many seconds at most."""
    sockets = _sockets(server)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        channels = [one for one in list(sockets.values()) if hasattr(one, "total_outbufs_len")]
        if not any(one.requests or one.total_outbufs_len for one in channels):
            return
        time.sleep(0.01)


def _sockets(server: Any) -> dict[int, Any]:
    """Listeners and connections, of the class for several addresses or of the one for one."""
    found: dict[int, Any] = getattr(server, "map", None) or server._map
    return found


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """A request as it comes in. It knows when it began, and refuses what two readers of the same
    bytes could take for different requests, or what waitress would read without a limit."""

    completed: bool
    error: Any
    path = ""
    """Of what cannot be read: waitress names it when such a client leaves too early."""

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.began = time.monotonic()

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
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError:  # a length of thousands of digits, a broken address
            raise ParsingError("A number or an address cannot be read") from None
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if self.version != "1.1" and "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("Transfer-Encoding is for HTTP/1.1")


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers what never became a request as the app answers errors, and closes the connection."""

    def execute(self) -> None:
        problem = self.request.error
        body = msgspec.json.encode(_error(problem.code, problem.body).body())
        self.status = f"{problem.code} {problem.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


def _error(status: int, detail: str) -> ApiError:
    if status == 500:
        return ApiError(status, f"{detail}.", type="server_error", code="internal_error")
    unreadable = f"This is no HTTP request that can be read: {detail[:200]}."
    code, message = _PROBLEMS.get(status, ("invalid_http", unreadable))
    return ApiError(status, message, type="invalid_request_error", code=code)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection."""

    parser_class = _Parser
    error_task_class = _ErrorTask


def _close_overdue(listener: Any, now: float) -> None:
    """In the place of waitress's maintenance, which lets a sender have all time that it wants who
    sends a byte now and then, and which waits until a reader can be written to who reads nothing.
    """
    channels = list(listener.active_channels.values())
    looked, listener.looked = getattr(listener, "looked", now), now
    if not 0 <= now - looked < STOOD_STILL_S:  # this process stood still, or the clock was set
        for channel in channels:
            channel.last_activity = now
            if channel.request is not None:
                channel.request.began = time.monotonic()
        return
    crowded = listener.in_connection_overflow
    for channel in channels:
        if _is_overdue(channel, now, crowded):
            channel.will_close = True
            channel.handle_close()


def _is_overdue(channel: Any, now: float, crowded: bool) -> bool:
    silence: float = now - channel.last_activity
    request = channel.request
    if channel.requests:  # one runs: what comes behind it has time, but an answer has to be read
        if request is not None:
            request.began = time.monotonic()
        unread: int = channel.total_outbufs_len
        return silence > IDLE_S and unread > 0
    if request is not None and time.monotonic() - request.began > REQUEST_S:
        return True
    return silence > (CROWDED_S if crowded else IDLE_S)
