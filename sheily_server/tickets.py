"""Requests that were admitted: a bounded table of them, and the events that come for each. Knows
nothing of the engine, and of the server only how many may run and wait."""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Callable

from .engine.messages import LAST_EVENTS, Finished, RequestEvent
from .errors import ApiError, queue_full

_MOST_RETRY_S = 60
_NEW_SHARE = 0.2
"""What the last request counts in the mean time of all."""


class Ticket:
    """A request's place in the engine: its events arrive here, in order.

    Ends with Finished, TooLong or RequestFailed, or with an ApiError when the engine dies.
    """

    def __init__(self, id: int, cancel: Callable[[int], None]) -> None:
        self.id = id
        self.began = time.monotonic()
        self._cancel = cancel
        self._events: queue.SimpleQueue[RequestEvent | ApiError] = queue.SimpleQueue()

    def put(self, event: RequestEvent | ApiError) -> None:
        self._events.put(event)

    def next(self, timeout: float) -> RequestEvent | None:
        """The next event, or None after `timeout` seconds. Raises the ApiError of a dead engine."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, ApiError):
            raise event
        return event

    def cancel(self) -> None:
        """Frees the request's slot at once. After its end this does nothing."""
        self._cancel(self.id)


class Tickets:
    """The tickets of all requests that run, `parallel` at most, and wait, `queue` at most.

    A request is admitted or refused under one lock, so that what waits is never more. Thread-safe.
    """

    def __init__(self, parallel: int, queue: int) -> None:
        self._parallel = parallel
        self._queue = queue
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._open: dict[int, Ticket] = {}
        self._mean_seconds = 1.0

    def count(self) -> tuple[int, int]:
        """How many run and how many wait."""
        n = len(self._open)
        running = min(n, self._parallel)
        return running, n - running

    def check_room(self) -> None:
        """Raises ApiError (429), with the seconds until a place is free by how long the last
        requests took, when the table is full."""
        running, waiting = self.count()
        if running + waiting >= self._parallel + self._queue:
            seconds = math.ceil((waiting + 1) / self._parallel * self._mean_seconds)
            raise queue_full(running, waiting, max(1, min(seconds, _MOST_RETRY_S)))

    def open(self, cancel: Callable[[int], None]) -> Ticket:
        """A ticket with a new id, on which `cancel` is called with it. Raises ApiError (429)."""
        with self._lock:
            self.check_room()
            ticket = Ticket(next(self._ids), cancel)
            self._open[ticket.id] = ticket
            return ticket

    def close(self, id: int) -> bool:
        """Takes a ticket out; whether it was there."""
        with self._lock:
            return self._open.pop(id, None) is not None

    def deliver(self, event: RequestEvent) -> bool:
        """Puts an event on its ticket, if that is still there, which it is told by; the last one
        takes it out."""
        with self._lock:
            ticket = self._open.get(event.id)
            if ticket is None:
                return False
            if isinstance(event, LAST_EVENTS):
                del self._open[event.id]
            if isinstance(event, Finished):
                seconds = time.monotonic() - ticket.began
                self._mean_seconds += _NEW_SHARE * (seconds - self._mean_seconds)
        ticket.put(event)
        return True

    def close_all(self) -> list[Ticket]:
        """Takes all tickets out, which are then the caller's to end."""
        with self._lock:
            tickets = list(self._open.values())
            self._open.clear()
        return tickets
