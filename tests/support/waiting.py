"""Waiting for what has to come, be the machine never so busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

WAIT = 100.0
"""Seconds after which a test gives up; no test takes them when it passes."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.01

T = TypeVar("T")


def until(condition: Callable[[], T | None], seconds: float = WAIT, what: str = "") -> T:
    """Waits for the first true value, and returns it; fails the test after `seconds`."""
    end = time.monotonic() + seconds
    pause = _FIRST_PAUSE_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain {what}")
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE_S)
