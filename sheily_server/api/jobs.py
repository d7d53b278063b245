"""Answers that are being made, with the events of those that others may follow. Knows no dialect
and no HTTP."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager

from ..budget import Budget
from ..clients import Client
from ..errors import InvalidRequestError, QueueFullError
from ..shares import Shares

log = logging.getLogger(__name__)

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Bytes of one job's events that are kept."""
AN_EVENT = 64
"""Bytes that an event takes besides its text."""
RETRY_S = 2
KEPT_SHARE = 4
"""One part in so many of the places is for clients that have no job."""


class EventLog:
    """The events of one stream, in order, as JSON without line breaks; at most `most` bytes of
    them, and no more than the `budget` has left. Thread-safe."""

    def __init__(self, budget: Budget, most: int = MAX_EVENT_BYTES) -> None:
        self._budget = budget
        self._most = most
        self._events: list[bytes] = []
        self._n_bytes = 0
        self._changed = threading.Condition()
        self._ended = False

    def __len__(self) -> int:
        return len(self._events)

    @property
    def n_bytes(self) -> int:
        """What it has taken of the budget."""
        return self._n_bytes

    def add(self, event: bytes) -> bool:
        """Returns whether there was room for an event. After the end there is none."""
        with self._changed:
            n_bytes = len(event) + AN_EVENT
            if self._ended or self._n_bytes + n_bytes > self._most:
                return False
            if not self._budget.take(n_bytes):
                return False
            self._events.append(event)
            self._n_bytes += n_bytes
            self._changed.notify_all()
            return True

    def end(self, last: bytes = b"") -> None:
        """Adds a last event. Does nothing after the end."""
        with self._changed:
            if last and not self._ended:
                self._events.append(last)
            self._ended = True
            self._changed.notify_all()

    def after(self, begin: int, seconds: float) -> tuple[list[bytes], bool]:
        """Returns the events from number `begin` on, and whether no more will come. Waits for one
        up to some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._events) > begin or self._ended, seconds)
            return self._events[begin:], self._ended

    def release(self) -> None:
        """Gives back what it took of the budget, as nobody finds it any more."""
        with self._changed:
            n_bytes, self._n_bytes = self._n_bytes, 0
        self._budget.give_back(n_bytes)

    def all(self) -> tuple[list[bytes], bool]:
        """Returns all events, and whether no more will come."""
        return self.after(0, 0)


class Job:
    """An answer that is being made. `body` is what it is so far, `items` are its input items, both
    as JSON. `log` is there if it is made in the background, and `n_bytes` is then what it holds
    besides. `lock` is held while its record is written or erased; an `erased` one is not written
    any more."""

    def __init__(
        self,
        id: str,
        owner: str,
        body: bytes,
        items: bytes = b"[]",
        log: EventLog | None = None,
        n_bytes: int = 0,
    ) -> None:
        self.id = id
        self.owner = owner
        self.body = body
        self.items = items
        self.log = log
        self.n_bytes = n_bytes
        self.client: Client = ()
        """Who has it made in the background."""
        self.lock = threading.Lock()
        self.erased = False
        self.kept = True
        """Whether the store has it once it has ended."""
        self._cancelled = threading.Event()
        self.ended = threading.Event()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Has a job in the background end soon."""
        self._cancelled.set()


class Jobs:
    """All jobs by their id. At most `most` run in the background, each in a thread of its own, and
    hold no more than `budget` together; at most `most` readers come back to one of them.
    Thread-safe."""

    def __init__(self, most: int, budget: Budget) -> None:
        self._most = most
        self.budget = budget
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._lost: OrderedDict[str, Job] = OrderedDict()
        """Those that ended and could not be stored: the newest are kept for their owners, with no
        more events together than one may have."""
        self._threads: set[threading.Thread] = set()
        self._places = Shares(most, most // KEPT_SHARE)
        self._begun = threading.Condition()
        self._beginning: set[str] = set()
        self._readers = threading.BoundedSemaphore(max(1, most))

    @property
    def running(self) -> int:
        """How many run in the background."""
        return len(self._threads)

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Lets one caller at a time look whether a job with this key is there, and begin it."""
        with self._begun:
            self._begun.wait_for(lambda: key not in self._beginning)
            self._beginning.add(key)
        try:
            yield
        finally:
            with self._begun:
                self._beginning.discard(key)
                self._begun.notify_all()

    def find(self, id: str, owner: str) -> Job | None:
        with self._lock:
            job = self._jobs.get(id) or self._lost.get(id)
        return job if job is not None and job.owner == owner else None

    def forget(self, job: Job) -> None:
        """Removes a job that has ended or is erased."""
        with self._lock:
            for table in (self._jobs, self._lost):
                _drop(table, job)
            if job.ended.is_set():
                self._release(job)

    def check_room(self, client: Client = ()) -> None:
        """Raises ServiceError if no further job of a client may run in the background."""
        if not self._most:
            raise InvalidRequestError(
                "This server makes no responses in the background (LLM_BACKGROUND is 0).",
                "background",
                "unsupported_parameter",
            )
        if not self._places.has(client):
            raise QueueFullError(self.running, 0, RETRY_S)

    def add(self, job: Job) -> None:
        """Has a job in the table whose caller waits for it, until `forget`."""
        with self._lock:
            self._jobs[job.id] = job

    def start(self, job: Job, work: Callable[[], None], client: Client = ()) -> None:
        """Has a client's job worked on in a thread. Raises QueueFullError."""

        def run() -> None:
            try:
                work()
            except Exception:
                log.exception("%s failed", job.id)
            finally:
                self._end(job, threading.current_thread())

        thread = threading.Thread(target=run, name="background", daemon=True)
        with self._lock:
            if not self._places.take(client):
                raise QueueFullError(len(self._threads), 0, RETRY_S)
            if not self.budget.take(job.n_bytes):
                self._places.give_back(client)
                raise QueueFullError(len(self._threads), 0, RETRY_S)
            job.client = client
            self._jobs[job.id] = job
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads are possible
            job.kept = True
            self._end(job, thread)
            raise QueueFullError(len(self._threads), 0, RETRY_S) from None

    def begin_reading(self) -> None:
        """Takes a place among the readers who come back. Raises QueueFullError."""
        if not self._readers.acquire(blocking=False):
            raise QueueFullError(self.running, 0, RETRY_S)

    def end_reading(self) -> None:
        self._readers.release()

    def wait(self, seconds: float) -> bool:
        """Waits until nothing runs in the background; returns whether that is so."""
        end = time.monotonic() + seconds
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _end(self, job: Job, thread: threading.Thread) -> None:
        if job.log is not None:
            job.log.end()
        with self._lock:
            self._threads.discard(thread)
            self._places.give_back(job.client)
            _drop(self._jobs, job)
            self.budget.give_back(job.n_bytes)
            if job.kept or job.erased:
                self._release(job)
            else:
                self._lost[job.id] = job
            while len(self._lost) > self._most or self._lost_bytes() > MAX_EVENT_BYTES:
                self._release(self._lost.popitem(last=False)[1])
            job.ended.set()

    def _lost_bytes(self) -> int:
        """Returns what the lost ones hold, which those that are being made cannot have."""
        return sum(job.log.n_bytes for job in self._lost.values() if job.log is not None)

    def _release(self, job: Job) -> None:
        if job.log is not None:
            job.log.release()


def _drop(table: MutableMapping[str, Job], job: Job) -> None:
    """Removes a job from a table, though not one that was begun anew under its id."""
    if table.get(job.id) is job:
        del table[job.id]
