"""Signs of life of the engine process. A separate thread sends them twice a second, also while
native code computes."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

from ..protocol.channel import Channel
from ..protocol.events import Beat, Disk

log = logging.getLogger(__name__)

BEAT_S = 0.5
READING_S_A_BYTE = 20e-6
"""CPU seconds that a byte of text may take before it counts as a hang; 1e-6 is usual."""


class Vitals:
    """The state that beats report. Each attribute is written by one thread and read by the one that
    sends beats. Times are those of time.monotonic()."""

    def __init__(self) -> None:
        self.step_began: float | None = None
        self.step_ended: float | None = None
        self.kv_cells_used = 0
        self.kv_cells_cached = 0
        self.heartbeat: Callable[[], int] = lambda: 0
        """`Context.heartbeat`: ns of the last sign from inside a step, 0 outside of steps."""
        self.leave: Callable[[], None] = lambda: os._exit(0)
        """Ends this process, as the server process is gone."""
        self.disk: Callable[[], Disk | None] = lambda: None
        """What the disk tier holds. For any thread."""
        self._reading: dict[int, tuple[Callable[[], float], float]] = {}

    @contextlib.contextmanager
    def reading(self, n_bytes: int) -> Iterator[None]:
        """Wraps the reading of a slice of text on this thread. Counts CPU time, not time spent
        waiting on a busy machine."""
        thread = threading.get_ident()
        clock = _cpu_clock(thread)
        self._reading[thread] = clock, clock() + n_bytes * READING_S_A_BYTE
        try:
            yield
        finally:
            del self._reading[thread]

    def beat(self) -> Beat:
        now = time.monotonic()
        began, ended = self.step_began, self.step_ended
        inside = self.heartbeat() / 1e9
        return Beat(
            step_s=None if began is None else max(now - max(began, inside), 0.0),
            reading_s=self._reading_s(),
            idle_s=None if ended is None else now - ended,
            kv_cells_used=self.kv_cells_used,
            kv_cells_cached=self.kv_cells_cached,
            disk=self.disk(),
        )

    def _reading_s(self) -> float | None:
        """Returns the CPU seconds by which the slice being read exceeds what its size allows."""
        seconds = []
        for clock, due in list(self._reading.values()):
            with contextlib.suppress(OSError):  # the thread is gone
                seconds.append(clock() - due)
        return max(max(seconds), 0.0) if seconds else None


def _cpu_clock(thread: int) -> Callable[[], float]:
    """Returns a clock of a thread's CPU seconds, or of time itself where the system has none."""
    get_clock = getattr(time, "pthread_getcpuclockid", None)
    if get_clock is None:
        return time.monotonic
    number = get_clock(thread)
    return lambda: time.clock_gettime(number)


def tell(vitals: Vitals, channel: Channel) -> None:
    """Sends beats until the server process is gone, then calls `vitals.leave`. Ends this process,
    and logs why, when no beat can be made: without beats it would be taken for hung."""
    try:
        while True:
            channel.send_events([vitals.beat()])
            time.sleep(BEAT_S)
    except ConnectionError:
        vitals.leave()
    except BaseException:
        log.exception("the engine's signs of life failed")
        os._exit(1)
