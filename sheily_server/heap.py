"""How glibc's heap deals with what is free. Nothing happens where the C library is another one, or
where the environment says what it is to do."""

from __future__ import annotations

import contextlib
import ctypes
import os

LARGE = 1 << 20
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of malloc.h


def give_back_large_blocks() -> None:
    """From now on a block of LARGE bytes goes back to the system as soon as it is free. By itself
    the first one that is freed raises this bound to its size, and the texts of a few large requests
    stay in the heap of each thread that had one."""
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        _mallopt(_M_MMAP_THRESHOLD, LARGE)


def use_one_heap() -> None:
    """Threads have no heaps of their own, whose free parts serve no other thread, so that memory
    would grow for an hour until all have had their largest request. Python's threads take turns
    anyway, and those that compute in native code ask for little meanwhile."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        _mallopt(_M_ARENA_MAX, 1)


def _mallopt(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(option, value)
