"""The socket that accepts connections, and the end of those that have taken too long."""

from __future__ import annotations

import errno
import logging
import threading
import time
from typing import Any

from waitress.server import TcpWSGIServer

from .connection import Channel, Shared

log = logging.getLogger(__name__)

REQUEST_S = 20.0
"""Seconds in which a request has to be there, head and body, from its first byte on."""

IDLE_S = 60.0
"""Seconds after which a connection is closed on which nothing is asked, or nothing is read."""

STOOD_STILL_S = 10.0
"""Seconds between two looks at the connections after which no connection is to blame."""

CROWDED_S = 2.0
"""What that is where every connection is taken."""

NO_ROOM_S = 0.5
"""Seconds in which no connection is accepted when there was no descriptor for one."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SAY_AGAIN_S = 60.0


class Listener(TcpWSGIServer):  # type: ignore[misc]
    """A socket that accepts connections, while there is room for them."""

    channel_class = Channel
    shared: Shared
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
            close_overdue(self, now)
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


def close_overdue(listener: Any, now: float) -> None:
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
