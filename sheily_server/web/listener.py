"""Listening sockets, and closing connections that take too long."""

from __future__ import annotations

import errno
import logging
import threading
import time
from typing import Any

from waitress.server import TcpWSGIServer

from .app import SMALL_BODY_BYTES
from .connection import Channel, Shared

log = logging.getLogger(__name__)

REQUEST_S = 20.0
"""Seconds from a request's first byte until its head and body must be complete."""

IDLE_S = 60.0
"""Seconds until a connection without requests, or with output that nobody reads, is closed."""

STOOD_STILL_S = 10.0
"""Gap between two checks, in seconds, that means this process stood still: no client is blamed."""

CROWDED_S = 2.0
"""Replaces IDLE_S for connections without a running request while all connections are taken."""

NO_ROOM_S = 0.5
"""Seconds without accepting after there was no descriptor for a connection."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SAY_AGAIN_S = 60.0


class Listener(TcpWSGIServer):  # type: ignore[misc]
    """A listening socket. Accepts connections while there is room for them."""

    channel_class = Channel
    shared: Shared
    next_channel_cleanup: float
    _paused_until = 0.0

    def readable(self) -> bool:
        """Replaces waitress's, which may log thousands of lines a second as room comes and goes."""
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

    def add_task(self, channel: Channel) -> None:
        """Gives a connection's next request to a thread, unless there is no room for it: the
        connection then answers it as soon as it has been read."""
        if self._is_http_thread() and not channel.refusing:
            request = channel.requests[0]
            if request.error is None:
                request.refusal = self.shared.app.refusal(
                    request.command,
                    request.path,
                    request.sender(channel.addr[0]),
                    request.body(SMALL_BODY_BYTES),
                )
            if request.refusal is not None:
                return
        super().add_task(channel)

    def pull_trigger(self) -> None:
        if not self._is_http_thread():  # which looks again by itself
            super().pull_trigger()

    def _is_http_thread(self) -> bool:
        return threading.get_ident() == self.shared.thread

    def maintenance(self, now: float) -> None:
        try:
            close_overdue(self, now)
            for channel in list(self.active_channels.values()):
                if channel.ended and channel.is_broken():
                    channel.close_soon()
        except Exception:  # one connection must not end the thread of all
            log.exception("a connection could not be closed")

    def _say(self, sentence: str) -> None:
        """Logs a warning, each sentence at most once a minute."""
        now = time.monotonic()
        said = self.shared.said
        if now - said.get(sentence, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            said[sentence] = now
            log.warning("%s", sentence)


def close_overdue(listener: Any, now: float) -> None:
    """Replaces waitress's maintenance, which never times out a client that trickles bytes, and
    which waits for a client that reads nothing until it can be written to."""
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
    if channel.requests:  # one is running: the next may take its time, but the answer must be read
        if request is not None:
            request.began = time.monotonic()
        unread: int = channel.total_outbufs_len
        return silence > IDLE_S and unread > 0
    if request is not None and time.monotonic() - request.began > REQUEST_S:
        return True
    return silence > (CROWDED_S if crowded else IDLE_S)
