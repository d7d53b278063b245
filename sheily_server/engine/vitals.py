"""Signs of life of the engine process: what its two threads are at, told twice a second by a third
one, which runs while native code computes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .messages import Beat, Channel

BEAT_S = 0.5


class Vitals:
    """Each attribute is written by one thread and read by the one that tells. Times are those of
    time.monotonic()."""

    def __init__(self) -> None:
        self.step_began: float | None = None
        self.step_ended: float | None = None
        self.reading_since: float | None = None
        self.kv_cells_used = 0
        self.kv_cells_cached = 0
        self.heartbeat: Callable[[], int] = lambda: 0
        """`Context.heartbeat`: ns of the last sign from inside a step, 0 outside of one."""

    def beat(self) -> Beat:
        now = time.monotonic()
        began, ended, reading = self.step_began, self.step_ended, self.reading_since
        inside = self.heartbeat() / 1e9
        return Beat(
            step_s=None if began is None else max(now - max(began, inside), 0.0),
            reading_s=None if reading is None else now - reading,
            idle_s=None if ended is None else now - ended,
            kv_cells_used=self.kv_cells_used,
            kv_cells_cached=self.kv_cells_cached,
        )


def tell(vitals: Vitals, channel: Channel) -> None:
    """Sends beats until the server process is gone; then this process leaves."""
    while True:
        try:
            channel.send_events([vitals.beat()])
        except OSError:
            os._exit(0)
        time.sleep(BEAT_S)
