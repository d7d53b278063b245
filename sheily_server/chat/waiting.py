"""Waits for the engine on behalf of a caller: until it is awake, and for its next event. Knows
deadlines and callers who leave, and nothing of what was asked."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..backend.supervisor import Supervisor
from ..backend.tickets import Ticket
from ..config import Config
from ..errors import EngineFailedError, InvalidRequestError, TimedOutError
from ..protocol.events import SCHEMA_TOO_COMPLEX, Refused, RequestEvent, RequestFailed
from .turn import Caller, ClientGoneError, TimeLimit

POLL_S = 0.05
FIRST_GRACE_S = 0.2
"""Seconds after its deadline that a request without a token waits for the engine to report it."""
ENGINE_GRACE_S = 10.0
"""The same for a request with a token, whose answer the engine ends between two steps."""


class Waiting:
    """Waits as long as a caller's deadline allows, and they are there."""

    def __init__(self, config: Config, supervisor: Supervisor) -> None:
        self._config = config
        self._supervisor = supervisor

    def is_awake(self, ticket: Ticket, caller: Caller, seconds: float) -> bool:
        """Waits up to some seconds until the engine is awake; returns whether it is. Raises
        ServiceError and ClientGoneError."""
        end = time.monotonic() + seconds
        while not (awake := self._supervisor.awake()) and time.monotonic() < end:
            self.next(ticket, caller, 0.0)
        return awake

    @contextmanager
    def place(self, caller: Caller, ticket: Ticket) -> Iterator[Ticket]:
        """Holds a request's place from when the engine is awake on. An error frees the place."""
        try:
            self.is_awake(ticket, caller, math.inf)
            yield ticket
        except BaseException:
            ticket.cancel()
            raise

    def first(self, ticket: Ticket, caller: Caller) -> RequestEvent:
        """Returns the next event, whose request has no token yet. Raises as `next`."""
        if self._left(caller, FIRST_GRACE_S) <= 0:  # after many tries, each of them short
            raise self._timed_out(caller)
        event = None
        while event is None:
            event = self.next(ticket, caller, FIRST_GRACE_S)
        return event

    def next(self, ticket: Ticket, caller: Caller, grace: float) -> RequestEvent | None:
        """Returns the next event, or None after a short while. Raises errors that the engine
        reports, TimedOutError and ClientGoneError. The engine keeps the deadline itself, and has
        `grace` seconds more to report it."""
        left = self._left(caller, grace)
        event = ticket.next(max(0.0, min(POLL_S, left)))
        if caller.gone():
            raise ClientGoneError
        if event is None:
            if left <= POLL_S:
                raise self._timed_out(caller)
            return None
        if isinstance(event, Refused):
            raise InvalidRequestError(event.message, event.param)
        if isinstance(event, RequestFailed):
            if event.code == "timeout":
                raise self._timed_out(caller)
            if event.code == SCHEMA_TOO_COMPLEX:
                raise InvalidRequestError(
                    f"The schema is too complex to be followed: {event.message}.",
                    code=event.code,
                )
            raise EngineFailedError(
                f"The model failed on this request: {event.message}.", code=event.code
            )
        return event

    def deadline(self, caller: Caller) -> float:
        """Returns when a request must have ended, as time.monotonic() has it."""
        return caller.arrived + self._limit(caller).seconds

    def _left(self, caller: Caller, grace: float) -> float:
        return self.deadline(caller) + grace - time.monotonic()

    def _limit(self, caller: Caller) -> TimeLimit:
        return caller.time or TimeLimit(self._config.timeout)

    def _timed_out(self, caller: Caller) -> TimedOutError:
        limit = self._limit(caller)
        return TimedOutError(limit.seconds, limit.setting)
