"""A bounded number of buffers for cells, made when they are first needed and used again: new memory
of this size is slower than copying into it."""

from __future__ import annotations

import queue
import threading

import numpy as np

from .errands import Cells


class Buffers:
    """Gives at most `most` buffers of `n_bytes` at a time. Thread-safe."""

    def __init__(self, most: int, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        self._free: queue.LifoQueue[Cells | None] = queue.LifoQueue()
        for _ in range(most):
            self._free.put(None)
        self._lent: dict[int, Cells] = {}
        self._lock = threading.Lock()

    def take(self, n_bytes: int, timeout: float = 0.0, leave: int = 0) -> Cells | None:
        """Returns a part of so many bytes of a buffer; None if none is free in time, or no more
        than `leave` are, where a single thread takes them, or there is no memory."""
        if leave and self._free.qsize() <= leave:
            return None
        try:
            found = self._free.get(block=timeout > 0, timeout=timeout or None)
        except queue.Empty:
            return None
        try:
            whole = np.empty(self._n_bytes, np.uint8) if found is None else found
        except MemoryError:
            self._free.put(None)
            return None
        part = whole[:n_bytes]
        with self._lock:
            self._lent[id(part)] = whole
        return part

    def give_back(self, part: Cells) -> None:
        with self._lock:
            whole = self._lent.pop(id(part))
        self._free.put(whole)
