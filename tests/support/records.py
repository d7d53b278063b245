"""Stored responses for tests, and stores to keep them in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

from sheily_server.store.base import Record, Store
from sheily_server.store.database import Database
from sheily_server.store.memory import MemoryStore
from sheily_server.store.opening import open_store

NOW = 1_800_000_000
"""The time of the tests' stores, in Unix seconds."""


def record(
    name: str,
    text: str = "a text",
    *,
    owner: str = "anna",
    created: int = NOW,
    status: str = "completed",
    previous: str | None = None,
) -> Record:
    """A record whose every part has the text."""
    return Record(
        id=f"resp_{name}",
        owner=owner,
        created=created,
        status=status,
        body=f'{{"id":"resp_{name}","status":"{status}","text":"{text}"}}'.encode(),
        items=f'["{text}"]'.encode(),
        context=f'{{"said":"{text}"}}'.encode(),
        previous=previous,
        events=f'{{"delta":"{text}"}}\n'.encode(),
    )


def noise(seed: object, size: int) -> str:
    """Hexadecimal digits, which do not compress below half of their number."""
    return Random(str(seed)).randbytes((size + 1) // 2).hex()[:size]


def failed(record: Record) -> Record:
    return replace(record, status="failed", body=record.body + b" ")


def memory_store() -> MemoryStore:
    return MemoryStore(days=30, megabytes=16)


def file_store(path: Path, *, days: int = 30, megabytes: int = 16, now: float = NOW) -> Database:
    store: Store = open_store(
        path, days=days, megabytes=megabytes, interrupted=failed, now=lambda: now
    )
    assert isinstance(store, Database)
    return store
