"""The state of an engine and its requests, as `/health` and the metrics show it."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.events import Ready

STATES = ("loading", "ready", "restarting", "draining", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What `/health` says. `state` is loading, ready, restarting, draining or failed; `progress` (0
    to 1) is there while a model loads; `reason` says why the state is not ready.

    `running` are requests of which a choice has had a slot, `queued` those of which none has;
    `answers_running` and `answers_queued` are their choices with and without one. `last_step_age_s`
    is None before the first step. KV cells: all of them, those that running sequences have, and
    those that hold a prefix alone; None while there is no engine.
    """

    state: str
    reason: str | None
    progress: float | None
    running: int
    queued: int
    restarts: int
    engine: Ready | None
    load_s: float | None = None
    last_step_age_s: float | None = None
    kv_cells: int | None = None
    kv_cells_used: int | None = None
    kv_cells_cached: int | None = None
    answers_running: int = 0
    answers_queued: int = 0
