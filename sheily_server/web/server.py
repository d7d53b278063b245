"""The HTTP server under the app: waitress, with the settings and the limits that this service
needs. Knows connections and broken HTTP; knows nothing of routes."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import resource
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import waitress
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import BadRequest, Error

from ..config import Config
from . import errors
from .app import ARRIVED, MAX_BODY_BYTES, SPARE_POSTS, App
from .errors import HttpError

log = logging.getLogger(__name__)

PATIENT_THREADS = 2
"""Threads that may wait at a time for clients that do not read what is kept for them."""

# Threads beside one for each request that runs or waits: /health and refusals are answered under
# any load.
SPARE_THREADS = SPARE_POSTS + PATIENT_THREADS + 2
CONNECTIONS = 512
LEAST_CONNECTIONS = 8
CONNECTION_DESCRIPTORS = 2
"""What a connection may take: a large answer that is read slowly waits in a file."""
OWN_DESCRIPTORS = 40
"""What the server takes beside connections, the pipes to the engine included."""
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

MOST_PARTIAL_BYTES = 64 * 1024 * 1024
"""Bytes of bodies that are not there to their end yet, over all connections."""

NO_ROOM_S = 0.5
"""Seconds in which no connection is accepted when there was no descriptor for one."""

LONG_TURN_S = 0.0005
"""Seconds of the HTTP thread's work on what it has read of a connection that are many."""

LEAST_GULP = 512
MOST_GULP = 8192
"""Bytes that are read of a connection at a time, by how long their like has taken."""

PROBE_S = 10.0
"""Seconds between two looks whether a client is there that has closed its sending side."""

_PROBE_WAIT_MS = 10
_POLLRDHUP = getattr(select, "POLLRDHUP", 0)  # of Linux
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SAY_AGAIN_S = 60.0

_PROBLEMS = {
    413: ("request_too_large", f"The body is larger than {MAX_BODY_BYTES} bytes."),
    431: ("headers_too_large", f"The request's head is larger than {MAX_HEAD_BYTES} bytes."),
    408: (
        "request_incomplete",
        "The request had not come to its end, and the room that it took was needed.",
    ),
    501: ("not_implemented", "No Transfer-Encoding but chunked is taken."),
}


class DescriptorsError(Exception):
    """There cannot be enough open files; the message is one sentence."""


def create(app: App, config: Config) -> Any:
    """A bound, listening waitress server. Raises OSError or ValueError for an address it cannot
    have, and DescriptorsError.

    Admission is the app's, so there is a thread for everything that it may admit. The look-ahead is
    what makes an end of the connection known at once. Bodies a few times too large are read to
    their end and refused by the app; larger ones are cut off, so that the answer may be lost.
    """
    server = waitress.create_server(
        app,
        host=config.host,
        port=config.port,
        threads=config.parallel + config.queue + SPARE_THREADS,
        channel_request_lookahead=1,
        asyncore_use_poll=True,
        connection_limit=connections(),
        cleanup_interval=1,
        max_request_body_size=4 * MAX_BODY_BYTES,
        max_request_header_size=MAX_HEAD_BYTES,
        ident=None,
    )
    shared = _Shared(app)
    sockets = list(_sockets(server).values())
    server.adj.connection_limit += len(sockets)  # which are counted as connections are
    for listener in sockets:
        if isinstance(listener, TcpWSGIServer):
            listener.__class__ = _Listener
            listener.shared = shared
    return server


def connections() -> int:
    """How many connections there may be. Raises the limit of open files for them where it may, and
    DescriptorsError where next to none have room."""
    wanted = OWN_DESCRIPTORS + CONNECTION_DESCRIPTORS * CONNECTIONS
    found = _raised_limit(wanted)
    if found >= wanted:
        return CONNECTIONS
    possible = (found - OWN_DESCRIPTORS) // CONNECTION_DESCRIPTORS
    if possible < LEAST_CONNECTIONS:
        least = OWN_DESCRIPTORS + CONNECTION_DESCRIPTORS * LEAST_CONNECTIONS
        raise DescriptorsError(
            f"the limit of open files is {found}, and {least} is the least: ulimit -n, or "
            "LimitNOFILE of systemd, raises it."
        )
    log.warning(
        "the limit of open files is %d, so that %d connections are accepted instead of %d: ulimit "
        "-n, or LimitNOFILE of systemd, raises it up to %d",
        found,
        possible,
        CONNECTIONS,
        wanted,
    )
    return possible


def _raised_limit(wanted: int) -> int:
    """How many files this process may have open, up to what is wanted."""
    soft, hard = (
        wanted if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    if soft < wanted and soft < hard:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):  # a sandbox, or a limit of the system's own
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), limits[1]))
            soft = min(wanted, hard)
    return min(soft, wanted)


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


@dataclass(slots=True)
class _Shared:
    """What all connections have in common. `partial` is in bytes, and the HTTP thread's alone,
    which is `thread`. `said` has when a sentence was logged."""

    app: App
    partial: int = 0
    thread: int = 0
    said: dict[str, float] = field(default_factory=dict)
    patience: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(PATIENT_THREADS)
    )


class _Body:
    """A body, in memory; of one that is longer than `most` nothing but the length."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._length = 0
        self._file = io.BytesIO()
        self.kept = 0
        """Bytes."""

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


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """A request as it comes in. It knows when it began and when it was complete, keeps no body that
    nobody will read, and refuses what two readers of the same bytes could take for different
    requests, or what waitress would read without a limit."""

    completed: bool
    error: Any
    path = ""
    """Of what cannot be read: waitress names it when such a client leaves too early."""

    def __init__(self, adj: Any, app: App) -> None:
        super().__init__(adj)
        self._app = app
        self._body = _Body(0)
        self.first_byte = self.began = time.monotonic()
        """The second is put off while nothing is to be blamed on the client."""
        self.arrived: float | None = None

    @property
    def held(self) -> int:
        """Bytes of the body that are kept."""
        return self._body.kept

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
        except ValueError:  # a length of thousands of digits, a broken address
            raise ParsingError("A number or an address cannot be read") from None
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if self.version != "1.1" and "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("Transfer-Encoding is for HTTP/1.1")
        if self.body_rcv is not None:
            self._body = _Body(MAX_BODY_BYTES if self._is_welcome() else 0)
            self.body_rcv.buf = self._body

    def _is_welcome(self) -> bool:
        """Whether the app could read this body; it says itself why not."""
        header = self.headers.get
        return self.content_length <= MAX_BODY_BYTES and self._app.may_call(
            self.command, self.path, header("HOST"), header("AUTHORIZATION")
        )


class _Task(WSGITask):  # type: ignore[misc]
    """A request that the app answers. Tells a client that has closed its sending side, having asked
    all it wanted, from one that is gone."""

    _probed = 0.0

    def service(self) -> None:
        try:
            super().service()
        finally:
            self.environ = None  # which has this task in it: a large body would stay for long

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        if self.request.arrived is not None:
            environ[ARRIVED] = self.request.arrived
        environ["waitress.client_disconnected"] = self.client_is_gone
        return environ

    def client_is_gone(self) -> bool:
        """For the thread that answers, between two parts of the answer."""
        channel = self.channel
        if not channel.connected:
            return True
        if not channel.has_said_all():
            return False
        gone = self._is_gone_at_end()
        if gone:
            channel.abandon()
        return gone

    def _is_gone_at_end(self) -> bool:
        """A machine answers with a reset to what is sent to a socket that is closed, and not to one
        of which the sending side alone is. Without a way to send something, a client is gone."""
        now = time.monotonic()
        if self._probed and now - self._probed < PROBE_S:
            return bool(self.channel.is_broken())
        self._probed = now
        try:
            if not self.wrote_header:
                if self.version != "1.1":
                    return True
                self.channel.write_soon(b"HTTP/1.1 100 Continue\r\n\r\n")
            elif any(value.startswith("text/event-stream") for _, value in self.response_headers):
                self.write(b": \n\n")
        except ClientDisconnected:
            return True
        return bool(self.channel.is_broken(_PROBE_WAIT_MS))


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers what never became a request as the app answers errors, and closes the connection."""

    def execute(self) -> None:
        problem = self.request.error
        body = errors.body(_error(problem.code, problem.body))
        self.status = f"{problem.code} {problem.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


def _error(status: int, detail: str) -> HttpError:
    if status == 500:
        return HttpError(status, f"{detail}.", "internal_error")
    unreadable = f"This is no HTTP request that can be read: {detail[:200]}."
    code, message = _PROBLEMS.get(status, ("invalid_http", unreadable))
    return HttpError(status, message, code)


class _Incomplete(Error):  # type: ignore[misc]
    code = 408
    reason = "Request Timeout"


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection."""

    task_class = _Task
    error_task_class = _ErrorTask
    request: Any
    will_close: bool
    connected: bool
    close_when_flushed: bool

    ended = False
    """Whether the client has closed its sending side."""

    given_up = False
    """Whether a request is refused before its end, so that nothing behind it is one."""

    _gulp = MOST_GULP
    """Bytes that are read at a time."""

    held = 0
    """Bytes that the request takes which is coming in."""

    def parser_class(self, adj: Any) -> _Parser:
        return _Parser(adj, self.server.shared.app)

    def readable(self) -> bool:
        if not (self.ended or self.given_up):
            return bool(super().readable())
        if not self.requests:  # all are answered, and there will be no more
            self.close_when_flushed = True
        return False

    def handle_read(self) -> None:
        """In the place of waitress's, which closes the connection at the end of what is sent."""
        try:
            data = self.socket.recv(self._gulp)
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        if data:
            self.last_activity = time.time()
            began = time.thread_time()
            self.received(data)
            self._adapt(time.thread_time() - began)
            self._hold(0 if self.request is None else self.request.held)
            self._make_room()
        else:
            self._end()

    def _adapt(self, seconds: float) -> None:
        """Reads less at a time of what takes long to understand, as chunks of a byte each do: every
        other connection waits for that."""
        if seconds > LONG_TURN_S:
            self._gulp = LEAST_GULP
        else:
            self._gulp = min(self._gulp * 2, MOST_GULP)

    def _end(self) -> None:
        """Of what the client sends: a request that is not complete will never be."""
        self.ended = True
        with self.requests_lock:
            self.request = None
        self._hold(0)
        if not self.requests:
            self.handle_close()

    def handle_close(self) -> None:
        if threading.get_ident() != self.server.shared.thread:  # a thread that could not write
            self.abandon()
            return
        self._hold(0)
        super().handle_close()

    def _hold(self, n_bytes: int) -> None:
        if self.socket is None:  # it was closed while it was read, as nothing could be written
            n_bytes = 0
        self.server.shared.partial += n_bytes - self.held
        self.held = n_bytes

    def _make_room(self) -> None:
        """Bodies that began long ago and are not there yet are those of nobody in a hurry."""
        while self.server.shared.partial > MOST_PARTIAL_BYTES:
            holding = [one for one in self._map.values() if getattr(one, "held", 0)]
            min(holding, key=lambda one: one.request.first_byte).give_up()

    def give_up(self) -> None:
        """Refuses the request that is coming in."""
        self.given_up = True
        self._hold(0)
        with self.requests_lock:
            request, self.request = self.request, None
            request.close()
            request.error = _Incomplete("")
            request.expect_continue = False
            request.completed = True
            self.requests.append(request)
            if len(self.requests) == 1:
                self.server.add_task(self)

    def service(self) -> None:
        try:
            super().service()
        except BaseException:  # waitress would log it, and keep the request that nobody answers
            self.abandon()
            raise

    def has_said_all(self) -> bool:
        """Whether the client has closed its sending side. The loop sees that where it reads, which
        it does not while two requests are there, or an answer is to be sent."""
        return self.ended or self._polled(_POLLRDHUP)

    def is_broken(self, wait_ms: int = 0) -> bool:
        """Whether the connection was reset; an end of what the client sends is no such thing."""
        return self._polled(0, wait_ms)

    def _polled(self, events: int, wait_ms: int = 0) -> bool:
        connection = self.socket
        if connection is None:
            return True
        poll = select.poll()
        try:
            poll.register(connection.fileno(), events)
        except ValueError:  # closed by the other thread just now
            return True
        return bool(poll.poll(wait_ms))

    def close_soon(self) -> None:
        """Has the loop close the connection when it comes to it. Closed before, from elsewhere, its
        descriptor could be that of a new connection by then, which would be closed for it."""
        self.will_close = True
        connection = self.socket
        if connection is not None:
            with contextlib.suppress(OSError):  # it was reset
                connection.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """As `close_soon`, for other threads: whoever writes to the connection finds it closed."""
        self.connected = False
        self.close_soon()
        self.server.pull_trigger()

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Waits for a client that does not read, while few threads do."""
        patience = self.server.shared.patience
        most = self.adj.outbuf_high_watermark
        if self.total_outbufs_len <= most:
            return
        if patience.acquire(blocking=False):
            try:
                super()._flush_outbufs_below_high_watermark()
            finally:
                patience.release()
            return
        with self.outbuf_lock:
            self._flush_exception(self._flush_some, do_close=False)
        if self.total_outbufs_len > most:
            self.abandon()


class _Listener(TcpWSGIServer):  # type: ignore[misc]
    """A socket that accepts connections, while there is room for them."""

    channel_class = _Channel
    shared: _Shared
    next_channel_cleanup: float
    _paused_until = 0.0

    def readable(self) -> bool:
        """In the place of waitress's, which has a line in the log each time that room comes and
        goes, which may be thousands of times a second."""
        self.shared.thread = threading.get_ident()
        now = time.time()
        if not 0 < self.next_channel_cleanup - now <= self.adj.cleanup_interval:
            self.next_channel_cleanup = now + self.adj.cleanup_interval
            self.maintenance(now)
        self.in_connection_overflow = len(self._map) >= self.adj.connection_limit
        if self.in_connection_overflow:
            self._say("all connections are taken: new ones wait until one ends")
        paused = time.monotonic() < self._paused_until
        return bool(self.accepting and not self.in_connection_overflow and not paused)

    def accept(self) -> Any:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._paused_until = time.monotonic() + NO_ROOM_S
            self._say(f"no connection can be accepted for now: {error.strerror}")
            return None

    def maintenance(self, now: float) -> None:
        try:
            _close_overdue(self, now)
            for channel in list(self.active_channels.values()):
                if channel.ended and channel.is_broken():
                    channel.close_soon()
        except Exception:  # the thread of all connections is not to end for one
            log.exception("a connection could not be closed")

    def _say(self, sentence: str) -> None:
        """Once a minute at most."""
        now = time.monotonic()
        said = self.shared.said
        if now - said.get(sentence, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            said[sentence] = now
            log.warning("%s", sentence)


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
            channel.close_soon()


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
