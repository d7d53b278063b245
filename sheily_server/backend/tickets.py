"""A bounded table of admitted requests and the events that arrive for each. Knows nothing of the
engine, and of the server only how many requests may run and wait."""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..clients import Client, giving_way
from ..errors import QueueFullError, ServiceError
from ..protocol.events import LAST_EVENTS, ChoiceFinished, Finished, RequestEvent, Started, TooLong

_MOST_RETRY_S = 60
_NEW_SHARE = 0.2
"""Weight of the latest request in the mean duration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests and choices. `running` counts requests with at least one choice that has had a slot,
    `queued` those without. `answers_running` counts choices that have a slot, `answers_queued`
    those that wait for one."""

    running: int
    queued: int
    answers_running: int
    answers_queued: int


class Ticket:
    """A request's place in the engine, where its events arrive in order.

    The last event is one of LAST_EVENTS, or a ServiceError when the engine dies or the request
    gives way to another client's. With `trims`,
    TooLong is not the last event, since the request may be sent again with a shorter prompt.
    """

    def __init__(
        self,
        id: int,
        cancel: Callable[[int], None],
        *,
        choices: int = 1,
        trims: bool = False,
        client: Client = (),
    ) -> None:
        self.id = id
        self.client = client
        self.choices = choices
        self.trims = trims
        self.began = time.monotonic()
        self._cancel = cancel
        self._events: queue.SimpleQueue[RequestEvent | ServiceError] = queue.SimpleQueue()

    def put(self, event: RequestEvent | ServiceError) -> None:
        self._events.put(event)

    def next(self, timeout: float) -> RequestEvent | None:
        """Returns the next event, or None after `timeout` seconds. Raises the ServiceError that
        ended the request."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, ServiceError):
            raise event
        return event

    def cancel(self) -> None:
        """Frees the request's slot at once. Does nothing after the request has ended."""
        self._cancel(self.id)


class _Place:
    """A ticket in the table, with the state of its choices."""

    __slots__ = ("ended", "started", "ticket")

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.started: set[int] = set()
        self.ended: set[int] = set()

    def note(self, event: RequestEvent) -> None:
        if isinstance(event, Started):
            self.started.add(event.choice)
        elif isinstance(event, ChoiceFinished):
            self.ended.add(event.choice)

    def ends_with(self, event: RequestEvent) -> bool:
        if isinstance(event, TooLong) and self.ticket.trims:
            return False
        return isinstance(event, LAST_EVENTS)


class Tickets:
    """The tickets of all requests: at most `parallel` that run and `queue` that wait.

    When all places are taken, the newest waiting request of the client with most gives way to that
    of a client with fewer (`clients.py`). It ends with a QueueFullError, and `shed` is called with
    its id.

    One lock covers the decision to admit or refuse, so the bound always holds. Thread-safe.
    """

    def __init__(
        self, parallel: int, queue: int, shed: Callable[[int], None] = lambda id: None
    ) -> None:
        self._shed = shed
        self._parallel = parallel
        self._queue = queue
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._open: dict[int, _Place] = {}
        self._empty_since = time.monotonic()
        self._mean_seconds = 1.0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, id: int) -> bool:
        return id in self._open

    @property
    def empty_since(self) -> float | None:
        """Since when there has been no request (time.monotonic()); None while there is one."""
        with self._lock:
            return None if self._open else self._empty_since

    def count(self) -> Counts:
        with self._lock:
            return self._count()

    def check_room(self, client: Client = ()) -> None:
        """Raises QueueFullError when there is no place for a client, with the estimated seconds
        until one is free; the estimate uses how long the last requests took."""
        with self._lock:
            self._find_room(client)

    def queue_place(self, id: int) -> int | None:
        """Returns the place of a request among those that wait, 1 for the first one that came; None
        once it runs or has ended."""
        with self._lock:
            waiting = [each for each, place in self._open.items() if not place.started]
        return waiting.index(id) + 1 if id in waiting else None

    def open(
        self,
        cancel: Callable[[int], None],
        choices: int = 1,
        trims: bool = False,
        client: Client = (),
    ) -> Ticket:
        """Returns a ticket with a new id, for `cancel` to be called with. Raises QueueFullError."""
        with self._lock:
            loser = self._find_room(client)
            if loser is not None:
                loser.put(self._full())
                del self._open[loser.id]
            id = next(self._ids)
            ticket = Ticket(id, cancel, choices=choices, trims=trims, client=client)
            self._open[id] = _Place(ticket)
        if loser is not None:
            self._shed(loser.id)
        return ticket

    def close(self, id: int) -> bool:
        """Removes a ticket; returns whether it was there."""
        with self._lock:
            return self._remove(id) is not None

    def deliver(self, event: RequestEvent) -> bool:
        """Puts an event on its ticket; returns whether the ticket was still there. The last event
        also removes the ticket. Started only affects the counts."""
        with self._lock:
            place = self._open.get(event.id)
            if place is None:
                return False
            place.note(event)
            if place.ends_with(event):
                self._remove(event.id)
            if isinstance(event, Finished):
                seconds = time.monotonic() - place.ticket.began
                self._mean_seconds += _NEW_SHARE * (seconds - self._mean_seconds)
        if not isinstance(event, Started):
            place.ticket.put(event)
        return True

    def close_all(self) -> list[Ticket]:
        """Removes all tickets and returns them; the caller must end them."""
        with self._lock:
            tickets = [place.ticket for place in self._open.values()]
            for ticket in tickets:
                self._remove(ticket.id)
        return tickets

    def _remove(self, id: int) -> _Place | None:
        self._empty_since = time.monotonic()
        return self._open.pop(id, None)

    def _count(self) -> Counts:
        places = self._open.values()
        started = sum(len(place.started) for place in places)
        running = sum(bool(place.started) for place in places)
        return Counts(
            running=running,
            queued=len(places) - running,
            answers_running=sum(len(place.started - place.ended) for place in places),
            answers_queued=sum(place.ticket.choices for place in places) - started,
        )

    def _find_room(self, client: Client) -> Ticket | None:
        """Returns the ticket that gives way to a client's next one, None where a place is free.
        Raises QueueFullError where the client's gives way itself."""
        if len(self._open) < self._parallel + self._queue:
            return None
        waiting = [place.ticket for place in self._open.values() if not place.started]
        loser = giving_way(client, [ticket.client for ticket in waiting]) if self._queue else None
        if loser is None:
            raise self._full()
        return next(ticket for ticket in reversed(waiting) if ticket.client == loser)

    def _full(self) -> QueueFullError:
        waiting = max(0, len(self._open) - self._parallel)
        seconds = math.ceil((waiting + 1) / self._parallel * self._mean_seconds)
        counts = self._count()
        return QueueFullError(counts.running, counts.queued, max(1, min(seconds, _MOST_RETRY_S)))
