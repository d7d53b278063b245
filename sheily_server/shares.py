"""Bounds what all requests in flight hold together, so that one client cannot hold it all; knows
numbers, and no HTTP."""

from __future__ import annotations

import threading
from collections import Counter

from .clients import Client, parts


class Shares:
    """So many places or bytes, which requests take and give back. The last `kept` of them are for
    clients that hold none, and of these the last for those of whose peer, or key, nobody holds any.
    So who comes under many names leaves room for others. Thread-safe."""

    def __init__(self, most: int, kept: int) -> None:
        self._left = most
        self._kept = kept
        self._held: Counter[Client] = Counter()
        self._lock = threading.Lock()

    def has(self, client: Client, n: int = 1) -> bool:
        """Returns whether so many are left for this client."""
        with self._lock:
            return n <= self._left - self._kept_from(client)

    def take(self, client: Client, n: int = 1) -> bool:
        """Takes some, unless fewer are left for this client. Returns whether it did."""
        with self._lock:
            if n > self._left - self._kept_from(client):
                return False
            self._left -= n
            for part in parts(client):
                self._held[part] += n
            return True

    @property
    def unused(self) -> bool:
        """Whether nobody holds any."""
        with self._lock:
            return not self._held

    def give_back(self, client: Client, n: int = 1) -> None:
        with self._lock:
            self._left += n
            for part in parts(client):
                self._held[part] -= n
                if not self._held[part]:
                    del self._held[part]

    def _kept_from(self, client: Client) -> int:
        """Returns how much of what is left is for others."""
        for level, part in enumerate(parts(client)):
            if part not in self._held:
                return self._kept * level // len(client)
        return self._kept if client else 0
