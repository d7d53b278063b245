"""A connection: its reads and writes, its end, and whether its client is still there."""

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

from .app import ARRIVED, App
from .parsing import Incomplete, Parser, RefusalTask

PATIENT_THREADS = 2
"""Threads that may wait at a time for clients that do not read what is kept for them."""

MOST_PARTIAL_BYTES = 64 * 1024 * 1024
"""Bytes of bodies that are not there to their end yet, over all connections."""

LONG_TURN_S = 0.0005
"""Seconds of the HTTP thread's work on what it has read of a connection that are many."""

LEAST_GULP = 512
MOST_GULP = 8192
"""Bytes that are read of a connection at a time, by how long their like has taken."""

PROBE_S = 10.0
"""Seconds between two looks whether a client is there that has closed its sending side."""

_PROBE_WAIT_MS = 10
_POLLRDHUP = getattr(select, "POLLRDHUP", 0)  # of Linux


@dataclass(slots=True)
class Shared:
    """What all connections have in common. `partial` is in bytes, and the HTTP thread's alone,
    which is `thread`. `said` has when a sentence was logged."""

    app: App
    partial: int = 0
    thread: int = 0
    said: dict[str, float] = field(default_factory=dict)
    patience: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(PATIENT_THREADS)
    )


class Task(WSGITask):  # type: ignore[misc]
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
    """Whether a request is refused before its end, so that nothing behind it is one."""

    _gulp = MOST_GULP
    """Bytes that are read at a time."""

    held = 0
    """Bytes that the request takes which is coming in."""

    def parser_class(self, adj: Any) -> Parser:
        return Parser(adj, self.server.shared.app)

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
            request.error = Incomplete("")
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
