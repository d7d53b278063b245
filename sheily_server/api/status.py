"""GET /health, /livez and /metrics: the state of the server and its engine."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from .. import metrics
from ..backend.health import SERVES, STATES
from ..protocol.events import Disk
from .models import SamplingDefaults, sampling_of
from .route import Asked, Route, Service, Whole, whole

Fraction = Annotated[float, Meta(ge=0, le=1)]
State = Annotated[str, Meta(extra_json_schema={"enum": list(STATES)})]


class DiskTier(Struct, frozen=True, kw_only=True):
    """What the disk tier holds, and what it did since the engine began."""

    bytes: int
    files: int
    tokens_read: int
    files_written: int
    files_evicted: int
    dropped: int
    errors: int


class Health(Struct, frozen=True, kw_only=True):
    """Whether a request would be served now; where the state is sleeping or waking, once the model
    is loaded again. `progress` is the loaded fraction of the model's file. `reason` says why no
    request would be served. `context_size` is in tokens. `kernel` computes
    attention, and the products with those of the weights that are Q8_0; it is null for llama.cpp's
    own and while the state is not ready.

    `queue` is how many requests may wait, `queued` how many do. `active_requests` counts these and
    the requests with a running answer. `answers_running` and `answers_queued` count each of a
    request's `n` answers. `last_step_age_s` is null before the engine's first step. `kv_cells`
    counts all KV cells, `kv_cells_used` those of running requests, `kv_cells_cached` those that
    only hold a prefix; all three are null without an engine. `store` is where responses are kept:
    in a `file`, or in `memory` until the process ends. `tokens_per_second` is what all answers
    together got in the last five seconds. `sampling` is null until the model's file
    has been read. `cache_disk` is the disk tier of the prefix cache, null where there is none or no
    engine.
    """

    status: Literal["ok", "unavailable"]
    state: State
    model: str
    model_path: str
    context_size: int
    reason: str | None
    progress: Fraction | None
    parallel: int
    queue: int
    active_requests: int
    queued: int
    answers_running: int
    answers_queued: int
    engine_restarts: int
    last_step_age_s: float | None
    kv_cells: int | None
    kv_cells_used: int | None
    kv_cells_cached: int | None
    kernel: str | None
    store: Literal["file", "memory"]
    cache_disk: DiskTier | None
    tokens_per_second: float
    sampling: SamplingDefaults | None


class Live(Struct, frozen=True):
    """The server process answers, whatever state its engine is in."""

    status: Literal["ok"] = "ok"


def health(service: Service, asked: Asked) -> Whole:
    found, config = service.health(), service.config
    age = found.last_step_age_s
    body = Health(
        status="ok" if found.state in SERVES else "unavailable",
        state=found.state,
        model=service.chat.model,
        model_path=os.fspath(config.model_path),
        context_size=config.context_size,
        reason=found.reason,
        progress=found.progress,
        parallel=config.parallel,
        queue=config.queue,
        active_requests=found.running + found.queued,
        queued=found.queued,
        answers_running=found.answers_running,
        answers_queued=found.answers_queued,
        engine_restarts=found.restarts,
        last_step_age_s=None if age is None else round(age, 3),
        kv_cells=found.kv_cells,
        kv_cells_used=found.kv_cells_used,
        kv_cells_cached=found.kv_cells_cached,
        kernel=found.engine.kernel if found.engine else None,
        store="file" if service.store.durable else "memory",
        cache_disk=_disk(found.disk),
        tokens_per_second=service.metrics.tokens_per_second(),
        sampling=sampling_of(found),
    )
    return Whole(msgspec.json.encode(body), status=200 if found.state in SERVES else 503)


def _disk(disk: Disk | None) -> DiskTier | None:
    if disk is None:
        return None
    return DiskTier(
        bytes=disk.used_bytes,
        files=disk.files,
        tokens_read=disk.tokens_read,
        files_written=disk.files_written,
        files_evicted=disk.files_evicted,
        dropped=disk.dropped,
        errors=disk.errors,
    )


def live(service: Service, asked: Asked) -> Whole:
    return whole(Live())


def figures(service: Service, asked: Asked) -> Whole:
    return Whole(service.metrics.text(), content_type=metrics.CONTENT_TYPE)


ROUTES = (
    Route(
        id="health",
        method="GET",
        path="/health",
        summary="State of the server and its model; 503 whenever no request would be served",
        handle=health,
        answer=Health,
        also={503: "No request would be served; `state` and `reason` say why."},
        open=True,
    ),
    Route(
        id="live",
        method="GET",
        path="/livez",
        summary="200 while the server process lives, whatever its engine does",
        handle=live,
        answer=Live,
        open=True,
    ),
    Route(
        id="metrics",
        method="GET",
        path="/metrics",
        summary="Counters, times and the engine's state, in Prometheus' text format",
        handle=figures,
        text=True,
    ),
)
