"""Bounds what all requests in flight hold together; knows bytes, and no HTTP."""

from __future__ import annotations

import threading


class Budget:
    """So many bytes, which requests take and give back. Thread-safe."""

    def __init__(self, n_bytes: int) -> None:
        self._left = n_bytes
        self._lock = threading.Lock()

    def take(self, n_bytes: int) -> bool:
        """Takes some, unless fewer are left. Returns whether it did."""
        with self._lock:
            if n_bytes > self._left:
                return False
            self._left -= n_bytes
            return True

    def give_back(self, n_bytes: int) -> None:
        with self._lock:
            self._left += n_bytes
