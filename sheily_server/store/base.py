"""What is kept of a response, and what a store of them does. Knows no dialect and no disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

RUNNING = ("queued", "in_progress")
"""Statuses of responses that are not finished. A store drops none of them."""
SALT_BYTES = 32
A_DAY = 86_400
SWEEP_S = 300
"""Seconds between two looks for responses that are too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One response. `owner` is what `Store.owner` says, `created` is in Unix seconds.

    `body` is the response object, `items` the array of its input items, `context` what the next
    turn needs of this one: all JSON, which no store reads. `events` are those of its stream, one
    JSON a line; empty where there is no stream to resume.
    """

    id: str
    owner: str
    created: int
    status: str
    body: bytes
    items: bytes
    context: bytes
    previous: str | None = None
    events: bytes = b""

    @property
    def running(self) -> bool:
        return self.status in RUNNING


class Store(Protocol):
    """Keeps records. Any thread may call it, and may have to wait for the disk."""

    @property
    def durable(self) -> bool:
        """Whether records outlive the process."""
        ...

    def owner(self, scope: str) -> str:
        """Returns the owner of what a caller with this scope stores: a keyed hash of it, the same
        as long as the store lives. Callers without keys share the empty one."""
        ...

    def put(self, record: Record) -> None:
        """Inserts or replaces a record, on the disk when it returns. Raises StoreFullError, whose
        message is the reason; what was there before is there still."""
        ...

    def get(self, id: str, owner: str) -> Record | None:
        """Returns a record of this owner; None without one. Raises StoreError."""
        ...

    def delete(self, id: str, owner: str) -> bool:
        """Erases a record of this owner, or returns False without one. Raises StoreError if it may
        not be gone from the disk."""
        ...

    def close(self) -> None:
        """Ends the use of the store: nothing can be put or got any more."""
        ...


def owner_of(scope: str, salt: bytes) -> str:
    """Hashes a caller's scope with the salt of a store; the empty scope stays empty."""
    if not scope:
        return ""
    return hashlib.blake2b(scope.encode(), digest_size=16, key=salt).hexdigest()
