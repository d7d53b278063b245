"""Calls at the same time, each on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each gives, once all are done."""
    found: list[Any] = [None] * len(tasks)

    def run(i: int) -> None:
        found[i] = tasks[i]()

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
