"""Lets work that may take long give way to all other. Knows the operating system alone."""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger(__name__)

LOWER = 10
"""By how much nicer: with two busy threads beside it on as many cores it gets a tenth of one."""


def give_way(id: int) -> None:
    """Gives a thread or a process, by its native id, a lower priority than this process has, for
    good; on Linux, where a thread can have one of its own."""
    if sys.platform == "linux":
        try:
            own = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, id, own + LOWER)
        except OSError as error:
            log.debug("the priority of %d stays: %s", id, error)
