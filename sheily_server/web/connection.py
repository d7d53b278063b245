"""Connections: reading, writing, closing, and detecting clients that are gone."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import WSGITask

from .app import ARRIVED, REFUSAL, App
from .parsing import Incomplete, Parser, RefusalTask

PATIENT_THREADS = 2
"""Threads that may wait at the same time for clients that do not read their answers."""

MOST_PARTIAL_BYTES = 64 * 1024 * 1024
"""Limit on the bytes of incomplete bodies, over all connections."""

LONG_TURN_S = 0.0005
"""Seconds of the HTTP thread's CPU time on one read above which it reads less at a time."""

LEAST_GULP = 512
MOST_GULP = 8192
"""Bytes read from a connection at a time: fewer after reads that took long."""

PROBE_S = 10.0
"""Seconds between two probes of a client that has closed its sending side."""

_PROBE_WAIT_MS = 10
_POLLRDHUP = getattr(select, "POLLRDHUP", 0)  # Linux only


@dataclass(slots=True)
class Shared:
    """State shared by all connections.

    `thread` identifies the HTTP thread. Only that thread uses `partial`, the bytes of incomplete
    bodies. `said` holds when each sentence was last logged.
    """

    app: App
    partial: int = 0
    thread: int = 0
    said: dict[str, float] = field(default_factory=dict)
    patience: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(PATIENT_THREADS)
    )


class Task(WSGITask):  # type: ignore[misc]
    """A request that the app answers. Tells a client that only closed its sending side, having sent
    everything, from one that is gone."""

    complete: bool
    wrote_header: bool
    _probed = 0.0

    def service(self) -> None:
        try:
            super().service()
        finally:
            self.environ = None  # breaks a cycle that would keep a large body for long

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        if self.request.arrived is not None:
            environ[ARRIVED] = self.request.arrived
        if self.request.refusal is not None:
            environ[REFUSAL] = self.request.refusal
        environ["waitress.client_disconnected"] = self.client_is_gone
        return environ

    def write(self, data: bytes) -> None:
        """Sends the head together with what follows it: each call of the system may wake the
        client, which takes time from the engine."""
        if self.complete and not self.wrote_header:
            self.channel.head = self.build_response_header()
            self.wrote_header = True
        super().write(data)
        if self.channel.head:
            self.channel.write_soon(b"")

    def client_is_gone(self) -> bool:
        """Whether the client is gone. For the answering thread, between two parts of the answer."""
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
        """Whether a client that closed its sending side is gone. Sends something to find out: a
        fully closed socket replies with a reset, a half-closed one does not. An HTTP/1.0 client
        without a response header yet cannot be probed, and counts as gone."""
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


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection."""

    task_class = Task
    error_task_class = RefusalTask
    request: Any
    will_close: bool
    connected: bool
    close_when_flushed: bool

    ended = False
    """Whether the client has closed its sending side."""

    given_up = False
    """Whether a request was refused before its end, so that no request follows it."""

    _gulp = MOST_GULP
    """Bytes read at a time."""

    held = 0
    """Bytes held by the request being received."""

    head = b""
    """The head of an answer whose beginning is to follow at once."""

    refusing = False
    """Whether the HTTP thread is answering a request for which there is no room."""

    def parser_class(self, adj: Any) -> Parser:
        return Parser(adj, self.server.shared.app)

    def readable(self) -> bool:
        if not (self.ended or self.given_up):
            return bool(super().readable())
        if not self.requests:  # all are answered and no more will come
            self.close_when_flushed = True
        return False

    def handle_read(self) -> None:
        """Replaces waitress's, which closes the connection at the end of the client's data."""
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
            self._refuse()
        else:
            self._end()

    def _refuse(self) -> None:
        """Answers the next request if there is no room for it, without a thread of its own: under
        overload each turn of another thread takes time from the engine."""
        request = next(iter(self.requests), None)  # another thread may just end the last one
        if request is None or request.refusal is None:
            return
        self.refusing = True
        try:
            self.service()
        finally:
            self.refusing = False

    def _adapt(self, seconds: float) -> None:
        """Reads less at a time while parsing is slow, as with chunks of one byte: every other
        connection waits for it."""
        if seconds > LONG_TURN_S:
            self._gulp = LEAST_GULP
        else:
            self._gulp = min(self._gulp * 2, MOST_GULP)

    def _end(self) -> None:
        """Handles the end of the client's data: drops a request that is not complete."""
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
        if self.socket is None:  # closed during the read, because a write failed
            n_bytes = 0
        self.server.shared.partial += n_bytes - self.held
        self.held = n_bytes

    def _make_room(self) -> None:
        """Refuses the oldest incomplete requests until the rest fits: they are in no hurry."""
        while self.server.shared.partial > MOST_PARTIAL_BYTES:
            holding = [one for one in self._map.values() if getattr(one, "held", 0)]
            min(holding, key=lambda one: one.request.first_byte).give_up()

    def give_up(self) -> None:
        """Refuses the request being received."""
        self.given_up = True
        self._hold(0)
        with self.requests_lock:
            request, self.request = self.request, None
            request.close()
            request.error = Incomplete("")
            request.expect_continue = False
            request.completed = True
            self.requests.append(request)
            if len(self.requests) == 1:
                self.server.add_task(self)

    def service(self) -> None:
        try:
            super().service()
        except BaseException:  # waitress would log it and keep the request unanswered
            self.abandon()
            raise

    def write_soon(self, data: bytes) -> int:
        head, self.head = self.head, b""
        super().write_soon(head + data)
        return len(data)

    def has_said_all(self) -> bool:
        """Whether the client has closed its sending side. Polls the socket, because the loop
        notices only when it reads, and it does not read while two requests are there or an answer
        is to be sent."""
        return self.ended or self._polled(_POLLRDHUP)

    def is_broken(self, wait_ms: int = 0) -> bool:
        """Whether the connection was reset. A closed sending side does not count."""
        return self._polled(0, wait_ms)

    def _polled(self, events: int, wait_ms: int = 0) -> bool:
        connection = self.socket
        if connection is None:
            return True
        poll = select.poll()
        try:
            poll.register(connection.fileno(), events)
        except ValueError:  # just closed by the other thread
            return True
        return bool(poll.poll(wait_ms))

    def close_soon(self) -> None:
        """Has the loop close the connection at its next turn. If another thread closed it, a new
        connection could get its descriptor, and the loop would close that one."""
        self.will_close = True
        connection = self.socket
        if connection is not None:
            with contextlib.suppress(OSError):  # it was reset
                connection.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Does the same as `close_soon`, for other threads. Later writes find it closed."""
        self.connected = False
        self.close_soon()
        self.server.pull_trigger()

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Waits for a client that does not read, if few threads do so already."""
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
