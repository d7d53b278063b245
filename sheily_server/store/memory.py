"""A store in memory: bounded, and gone with the process."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import StoreFullError
from .base import A_DAY, SALT_BYTES, SWEEP_S, Record, owner_of
from .packing import pack, unpack

A_RECORD = 1024
"""Bytes that a record takes beside its texts, at most: they also bound how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    created: int
    status: str
    running: bool
    previous: str | None
    block: bytes

    @property
    def size(self) -> int:
        return len(self.block) + A_RECORD


class MemoryStore:
    """Implements `Store`. Where there is no room, the finished record that was put first goes."""

    durable = False

    def __init__(self, *, days: int, megabytes: int, now: Callable[[], float] = time.time) -> None:
        self._lifetime = days * A_DAY
        self._most = megabytes << 20
        self._now = now
        self._salt = secrets.token_bytes(SALT_BYTES)
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._size = 0
        self._next_sweep = 0.0

    def owner(self, scope: str) -> str:
        return owner_of(scope, self._salt)

    def put(self, record: Record) -> None:
        new = _Kept(
            created=record.created,
            status=record.status,
            running=record.running,
            previous=record.previous,
            block=pack(record),
        )
        key = record.owner, record.id
        with self._lock:
            self._sweep()
            self._make_room(new.size, key)
            self._remove(key)
            self._kept[key] = new
            self._size += new.size

    def get(self, id: str, owner: str) -> Record | None:
        with self._lock:
            found = self._kept.get((owner, id))
        if found is None or self._expired(found):
            return None
        return unpack(
            found.block,
            id=id,
            owner=owner,
            created=found.created,
            status=found.status,
            previous=found.previous,
        )

    def delete(self, id: str, owner: str) -> bool:
        with self._lock:
            return self._remove((owner, id))

    def close(self) -> None:
        with self._lock:
            self._kept.clear()
            self._size = 0

    def _remove(self, key: tuple[str, str]) -> bool:
        found = self._kept.pop(key, None)
        if found is None:
            return False
        self._size -= found.size
        return True

    def _make_room(self, size: int, key: tuple[str, str]) -> None:
        """Drops what is needed for a record of this size in the place of its predecessor, or raises
        StoreFullError and drops nothing."""
        before = self._kept.get(key)
        missing = self._size + size - self._most - (before.size if before else 0)
        dropped = []
        for other, kept in self._kept.items():
            if missing <= 0:
                break
            if not kept.running and other != key:
                dropped.append(other)
                missing -= kept.size
        if missing > 0:
            raise StoreFullError(
                f"There is no room for it: LLM_STORE_MB allows {self._most >> 20} MiB."
            )
        for other in dropped:
            self._remove(other)

    def _sweep(self) -> None:
        """Drops what is too old, now and then."""
        if self._now() < self._next_sweep:
            return
        self._next_sweep = self._now() + SWEEP_S
        for key in [key for key, kept in self._kept.items() if self._expired(kept)]:
            self._remove(key)

    def _expired(self, kept: _Kept) -> bool:
        return not kept.running and kept.created < self._now() - self._lifetime
