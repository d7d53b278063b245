"""The requests that were admitted, on their way to an engine and back: their places, what of them
is in the engine, whose fault its death was. Knows no process, only the outbox of the one that
runs."""

from __future__ import annotations

import itertools
import logging
import threading
import time

import msgspec

from ..clients import Client
from ..config import Config
from ..errors import RequestCrashesEngineError, ServiceError
from ..protocol.channel import encode_command
from ..protocol.commands import Detokenize, Forget, Submit, Tokenize
from ..protocol.events import (
    LAST_EVENTS,
    Admitted,
    Beat,
    Finished,
    RequestEvent,
    RequestFailed,
    Started,
)
from .commands import frame_of
from .deaths import Deaths
from .gate import Gate, Passed
from .outbox import Outbox
from .suspects import Suspects
from .tickets import Ticket, Tickets

log = logging.getLogger(__name__)


class Traffic:
    """Sends the commands of admitted requests and delivers the events that come back.

    `lock` is the one under which the engine's state changes: no request is admitted to an engine
    whose end has ended all requests. Methods without a word on it take it themselves.
    """

    def __init__(self, config: Config, lock: threading.Lock, deaths: Deaths) -> None:
        self.tickets = Tickets(config.parallel, config.queue, self._left)
        self._lock = lock
        self._deaths = deaths
        self._gate = Gate()
        self._suspects = Suspects()
        self._outbox: Outbox | None = None
        self._asides = itertools.count(-1, -1)

    def carry(self, outbox: Outbox | None) -> None:
        """Sends what comes by this engine's outbox; without one, nothing, and nothing is in an
        engine. Call with the lock held."""
        self._outbox = outbox
        if outbox is None:
            self._gate.clear()

    def open(self, choices: int, trims: bool, client: Client) -> Ticket:
        """Gives a client's request its place. Raises QueueFullError. Call with the lock held."""
        return self.tickets.open(self._cancel, choices, trims, client)

    def send(
        self, ticket: Ticket, command: Submit | Tokenize | Detokenize, first: bool = False
    ) -> None:
        """Sends a command under a ticket's id; `first` ahead of all others. Raises
        InvalidRequestError, which ends the ticket."""
        try:
            frame = frame_of(msgspec.structs.replace(command, id=ticket.id))
            fingerprint = self._suspects.fingerprint(command)
            with self._lock:
                if ticket.id not in self.tickets:  # the engine died and ended the ticket
                    return
                verdict = self._suspects.verdict(fingerprint)
                if verdict == "refused":
                    raise RequestCrashesEngineError()
                suspect = verdict == "alone"
                self._pass(
                    self._gate.arrive(ticket.id, fingerprint, frame, suspect=suspect, first=first)
                )
        except BaseException:
            ticket.cancel()
            raise

    def tell(self, command: Forget) -> None:
        """Sends what is of no request, if there is an engine. Call with the lock held."""
        if self._outbox is not None:
            self._outbox.put(next(self._asides), encode_command(command))

    def take(self, event: RequestEvent) -> None:
        """Delivers an event of the engine."""
        with self._lock:
            if isinstance(event, Admitted):
                self._gate.admitted(event.id)
            elif isinstance(event, Started):
                self._gate.started(event.id)
            elif isinstance(event, LAST_EVENTS):
                self._end(event)
            self.tickets.deliver(event)

    def beat(self, now: float, beat: Beat) -> None:
        """Lets pass what waited for the engine to turn to something else. Call with the lock
        held."""
        self._pass(self._gate.beat(now, beat))

    def died(self, by_itself: bool) -> int | None:
        """Records that the engine has died, and blames who was in it if it died `by_itself`.
        Returns the request that is refused from now on, if one is. Call with the lock held."""
        alone, culprit = self._blame() if by_itself else (None, None)
        self._outbox = None
        if self._deaths.died(by_itself, alone is not None, culprit is not None):
            self._gate.wary = True
            log.warning("requests run one at a time until one is answered")
        return culprit

    def end_all(self, error: ServiceError, culprit: int | None = None) -> None:
        """Ends every request with an error; the culprit's error says not to send it again."""
        with self._lock:
            self._gate.clear()
            tickets = self.tickets.close_all()
        for ticket in tickets:
            ticket.put(RequestCrashesEngineError() if ticket.id == culprit else error)

    def _cancel(self, id: int) -> None:
        with self._lock:
            if self.tickets.close(id):
                self._left(id)

    def _left(self, id: int) -> None:
        """Takes a request out of the engine whose ticket is closed. Call with the lock held."""
        if self._outbox is None:
            return
        if not self._gate.is_inside(id) or self._outbox.cancel(id):
            self._pass(self._gate.left(id))
        else:
            self._gate.cancelled(id, time.monotonic())

    def _pass(self, passed: Passed) -> None:
        """Sends what the gate lets through. Call with the lock held."""
        if self._outbox is not None:
            for id, frame in passed:
                self._outbox.put(id, frame)

    def _end(self, event: RequestEvent) -> None:
        """Records that a request has ended by itself. Call with the lock held."""
        if isinstance(event, Finished):
            self._deaths.answered()
            if self._gate.wary:
                self._gate.wary = False
                log.warning("a request was answered: requests run together again")
        if event.id == self._gate.alone and not isinstance(event, RequestFailed):
            self._suspects.clear(self._gate.fingerprint(event.id))
        self._pass(self._gate.left(event.id))

    def _blame(self) -> tuple[int | None, int | None]:
        """Blames the requests that were in native code when the engine died by itself. Convicts a
        suspect that was alone in the engine. Returns the request that was alone, and the same again
        if it was convicted. Call with the lock held."""
        unwritten = self._outbox.unwritten() if self._outbox is not None else ()
        alone = self._gate.alone
        if alone is not None and alone not in unwritten:
            fingerprint = self._gate.fingerprint(alone)
            if self._suspects.verdict(fingerprint) != "free":
                self._suspects.convict(fingerprint)
                log.error(
                    "refusing a request from now on: the engine died of it again while it ran alone"
                )
                return alone, alone
        self._suspects.blame(self._gate.native(unwritten))
        return (None if alone in unwritten else alone), None
