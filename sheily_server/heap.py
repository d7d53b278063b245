"""Tunes how glibc's heap keeps free memory. Does nothing with another C library, or where the
environment sets the option."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os

LARGE = 1 << 20
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # from malloc.h


def give_back_large_blocks() -> None:
    """Has blocks of at least LARGE bytes go back to the system as soon as they are free. By
    default, freeing the first one raises this threshold to its size, and the heap of each thread
    keeps the texts of its large requests."""
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        _mallopt(_M_MMAP_THRESHOLD, LARGE)


def use_one_heap() -> None:
    """Gives threads no heaps of their own. Free parts of such a heap serve no other thread, so
    memory would grow for an hour, until each thread has had its largest request. Python's threads
    take turns anyway, and those that compute in native code allocate little meanwhile."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        _mallopt(_M_ARENA_MAX, 1)


def give_back_free_memory() -> None:
    """Has what is free go back to the system now, as when nothing will be done for long."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _mallopt(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(option, value)
