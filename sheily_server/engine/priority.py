"""Lowers the priority of work that may take long. Knows only the operating system."""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger(__name__)

LOWER = 10
"""Added niceness. Next to two busy threads on two cores, such a thread gets a tenth of a core."""


def give_way(id: int) -> None:
    """Gives a thread or process, by its native id, a lower priority than this process for good.
    Only on Linux, where a thread can have its own."""
    if sys.platform == "linux":
        try:
            own = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, id, own + LOWER)
        except OSError as error:
            log.debug("the priority of %d stays: %s", id, error)
