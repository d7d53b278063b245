"""Metrics in Prometheus' text format: outcomes of requests, times, token counts, and the engine's
current state. Only this module uses prometheus_client."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .backend.health import STATES, Health
from .protocol.events import Disk, Finished
from .version import package_version

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER_ROUTE = "other"
"""Route label of requests that match no route: labels never hold what a client sent."""

GAP_BUCKETS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 2, 5, 10, 30, 60)
FIRST_TOKEN_BUCKETS = (*GAP_BUCKETS, 120, 300)

RATE_S = 5.0

Outcome = Literal[
    "ok",
    "invalid",
    "unauthorized",
    "queue_full",
    "unavailable",
    "engine_crashed",
    "timeout",
    "client_gone",
    "error",
]


class Rate:
    """How many tokens came in a second, on average over the last RATE_S seconds. Its methods may be
    called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._came: deque[tuple[float, int]] = deque()

    def add(self, n: int) -> None:
        """Counts tokens that have come now."""
        with self._lock:
            self._came.append((self._clock(), n))
            self._forget()

    def value(self) -> float:
        """Returns tokens per second, to tenths; over the time since the first, if that is less."""
        with self._lock:
            self._forget()
            if not self._came:
                return 0.0
            seconds = max(1.0, self._clock() - self._came[0][0])
            return round(sum(n for _, n in self._came) / seconds, 1)

    def _forget(self) -> None:
        begin = self._clock() - RATE_S
        while self._came and self._came[0][0] < begin:
            self._came.popleft()


class Metrics:
    """Counters and times since the server's start, in a registry of its own. All methods may be
    called from any thread. `health` and `background`, which counts the responses in the background,
    are called whenever the metrics are read."""

    def __init__(
        self, health: Callable[[], Health], background: Callable[[], int] = lambda: 0
    ) -> None:
        # Else each counter gets a second series with the time it was created.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self._registry = CollectorRegistry()
        self._rate = Rate()
        self._requests = Counter(
            "sheily_requests",
            "Requests that have ended, by route and outcome.",
            ["route", "outcome"],
            registry=registry,
        )
        self._first_token = Histogram(
            "sheily_first_token_seconds",
            "Time from a request's arrival to its first token.",
            buckets=FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._token_gap = Histogram(
            "sheily_token_gap_seconds",
            "Time between the tokens of an answer; drafted tokens come several at once.",
            buckets=GAP_BUCKETS,
            registry=registry,
        )

        def tokens(kind: str, help: str) -> Counter:
            return Counter(f"sheily_{kind}_tokens", help, registry=registry)

        self._prompt_tokens = tokens("prompt", "Prompt tokens of the answers that have ended.")
        self._cached_tokens = tokens("cached", "Prompt tokens found in the prefix cache.")
        self._disk_tokens = tokens("disk_cached", "Cached tokens that came from the disk tier.")
        self._preempted = Counter(
            "sheily_preempted_answers",
            "How often answers were set aside for a while, as the KV cells were full.",
            registry=registry,
        )
        self._generated_tokens = tokens("generated", "Tokens of answers that have ended.")
        self._drafted_tokens = tokens("drafted", "Tokens drafted ahead of the model.")
        self._accepted_tokens = tokens("accepted", "Drafted tokens that the model accepted.")
        self._timed_out = Counter(
            "sheily_timed_out_answers",
            "Answers cut short by the deadline; without a token it is the request's outcome.",
            registry=registry,
        )
        registry.register(_State(health, background))

    def request(self, route: str, outcome: Outcome) -> None:
        """Counts a request that has ended."""
        self._requests.labels(route, outcome).inc()

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def tokens(self, n: int) -> None:
        """Counts tokens that an answer has got now."""
        self._rate.add(n)

    def tokens_per_second(self) -> float:
        """Returns what all answers together get now, as Rate."""
        return self._rate.value()

    def token_gap(self, seconds: float) -> None:
        self._token_gap.observe(seconds)

    def finished(self, done: Finished, timed_out: bool) -> None:
        """Counts a request that was answered, even if its deadline cut the answer short."""
        if timed_out:
            self._timed_out.inc()
        self._prompt_tokens.inc(done.prompt_tokens)
        self._cached_tokens.inc(done.cached_tokens)
        self._disk_tokens.inc(done.disk_tokens)
        self._preempted.inc(done.preempted)
        self._generated_tokens.inc(done.completion_tokens)
        self._drafted_tokens.inc(done.drafted_tokens)
        self._accepted_tokens.inc(done.accepted_tokens)

    def text(self) -> bytes:
        """Renders all metrics in the format of CONTENT_TYPE."""
        return generate_latest(self._registry)


class _State(Collector):
    """Reads the supervisor's state when the metrics are read. Unknown values have no sample."""

    def __init__(self, health: Callable[[], Health], background: Callable[[], int]) -> None:
        self._health = health
        self._background = background
        self._version = package_version()

    def collect(self) -> Iterator[Metric]:
        health = self._health()
        build = GaugeMetricFamily(
            "sheily_build_info",
            "Always 1; the fingerprint is set while a model is loaded.",
            labels=["version", "fingerprint"],
        )
        fingerprint = health.engine.fingerprint if health.engine else ""
        build.add_metric([self._version, fingerprint], 1)
        yield build
        state = GaugeMetricFamily(
            "sheily_engine_state", "1 for the state the engine is in, else 0.", labels=["state"]
        )
        for name in STATES:
            state.add_metric([name], name == health.state)
        yield state
        yield CounterMetricFamily(
            "sheily_engine_restarts", "How often the engine was restarted.", health.restarts
        )
        for name, help, value in (
            ("requests_running", "Requests with an answer in a slot.", health.running),
            ("requests_queued", "Requests that wait for a slot.", health.queued),
            ("answers_running", "Answers that have a slot.", health.answers_running),
            ("answers_queued", "Answers that wait for a slot.", health.answers_queued),
            (
                "background_running",
                "Responses that are made in the background.",
                self._background(),
            ),
            ("engine_load_seconds", "Time that the last load took.", health.load_s),
            (
                "engine_last_step_age_seconds",
                "Time since the engine's last step ended.",
                health.last_step_age_s,
            ),
            ("kv_cells", "Tokens that the KV cache has room for.", health.kv_cells),
            ("kv_cells_used", "KV cells of running requests.", health.kv_cells_used),
            (
                "kv_cells_cached",
                "KV cells that only cache a prefix, and are freed when room is needed.",
                health.kv_cells_cached,
            ),
        ):
            yield GaugeMetricFamily(f"sheily_{name}", help, value)
        yield from _of_disk(health.disk)


def _of_disk(disk: Disk | None) -> Iterator[Metric]:
    for name, help, field in (
        ("bytes", "Bytes that the disk tier of the prefix cache holds.", "used_bytes"),
        ("files", "Files that the disk tier holds.", "files"),
    ):
        yield GaugeMetricFamily(f"sheily_cache_disk_{name}", help, getattr(disk, field, None))
    for name, help, field in (
        ("read_tokens", "Tokens read from the disk tier.", "tokens_read"),
        ("written_files", "Files written to the disk tier.", "files_written"),
        ("evicted_files", "Files of the disk tier removed for want of room.", "files_evicted"),
        ("dropped", "Blocks not written to the disk tier for want of time.", "dropped"),
        ("errors", "Files of the disk tier that could not be used or written.", "errors"),
    ):
        yield CounterMetricFamily(f"sheily_cache_disk_{name}", help, getattr(disk, field, None))
