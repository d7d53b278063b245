"""The state of the engine and its requests, for `/health` and the metrics."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.events import Disk, Ready
from .gguf import GGUF
from .sampling import Defaults

STATES = ("loading", "ready", "sleeping", "waking", "restarting", "draining", "failed")
LOADS = ("loading", "waking", "restarting")
"""States in which a model is loaded."""
SERVES = ("ready", "sleeping", "waking")
"""States in which a request is served, if only once the model is loaded again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Content of `/health`. `state` is one of STATES. `progress` (0 to 1) is set while a model
    loads. `reason` says why no request is served.

    `running` counts requests with at least one choice that has had a slot, `queued` those without.
    `answers_running` and `answers_queued` count their choices with and without a slot.
    `last_step_age_s` is None before the first step. `kv_cells` counts all KV cells, `kv_cells_used`
    those of running sequences, `kv_cells_cached` those that only hold a prefix; all are None while
    there is no engine. `disk` is what the prefix cache's disk tier holds, where there is one.
    """

    state: str
    reason: str | None
    progress: float | None
    running: int
    queued: int
    restarts: int
    engine: Ready | None
    file: GGUF | None = None
    defaults: Defaults | None = None
    load_s: float | None = None
    last_step_age_s: float | None = None
    kv_cells: int | None = None
    kv_cells_used: int | None = None
    kv_cells_cached: int | None = None
    disk: Disk | None = None
    answers_running: int = 0
    answers_queued: int = 0
