"""The parent's side of the engine: keeps a process of it alive, admits requests, and hands each
one's events to whoever waits for them. Knows nothing of HTTP, prompts or native code."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from . import engine_process, gguf, preflight
from .config import Config, untuned
from .engine.messages import (
    LAST_EVENTS,
    Beat,
    Cancel,
    Channel,
    Detokenize,
    Event,
    Finished,
    LoadFailed,
    Loading,
    Ready,
    RequestEvent,
    Start,
    Submit,
    Tokenize,
    TunedFor,
)
from .engine_process import EngineProcess
from .errors import ApiError, engine_crashed, model_unavailable, not_ready, queue_full

log = logging.getLogger(__name__)

ENGINE_COMMAND = (sys.executable, "-m", "sheily_server.engine")
BACKOFF_S = (0.1, 0.5, 2.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Health:
    """What `/health` says. `state` is loading, ready, restarting, draining or failed; `progress` (0
    to 1) is there while a model loads; `reason` says why the state is not ready.

    `running` and `queued` are requests; `last_step_age_s` is None before the first step. KV cells:
    all of them, those that running sequences have, and those that hold a prefix alone; None while
    there is no engine.
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


class Ticket:
    """A request's place in the engine: its events arrive here, in order.

    Ends with Finished, TooLong or RequestFailed, or with an ApiError when the engine dies.
    """

    def __init__(self, id: int, cancel: Callable[[int], None]) -> None:
        self.id = id
        self._cancel = cancel
        self._events: queue.SimpleQueue[RequestEvent | ApiError] = queue.SimpleQueue()

    def put(self, event: RequestEvent | ApiError) -> None:
        self._events.put(event)

    def next(self, timeout: float) -> RequestEvent | None:
        """The next event, or None after `timeout` seconds. Raises the ApiError of a dead engine."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, ApiError):
            raise event
        return event

    def cancel(self) -> None:
        """Frees the request's slot at once. After its end this does nothing."""
        self._cancel(self.id)


class Supervisor:
    """Keeps one engine process alive.

    A request is admitted to the bounded queue, or refused, under one lock, so that what waits is
    never more than configured. A crash fails the requests in flight; none is repeated by itself.

    `on_load` is called, on the supervisor's thread, with the fraction of the model that is loaded.
    `command` starts the engine, with the number of its socket's file descriptor behind it.
    """

    def __init__(
        self,
        config: Config,
        on_load: Callable[[float], None] | None = None,
        command: Sequence[str] = ENGINE_COMMAND,
    ) -> None:
        self._config = config
        self._on_load = on_load
        self._command = command
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._tickets: dict[int, Ticket] = {}
        self._state = "loading"
        self._reason: str | None = None
        self._progress: float | None = 0.0
        self._engine: Ready | None = None
        self._channel: Channel | None = None
        self._restarts = 0
        self._crashes_in_row = 0
        self._stopping = threading.Event()
        self._draining = False
        self._beat: tuple[float, Beat] | None = None
        self._load_s: float | None = None
        self._mean_seconds = 1.0
        self._submitted: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begins to load the model; returns at once."""
        self._thread.start()

    def drain(self, timeout: float) -> bool:
        """Admits nothing more and waits for what is admitted, for so many seconds at most; whether
        all of it ended."""
        with self._lock:
            self._draining = True
        end = time.monotonic() + timeout
        while not self._stopping.wait(0.02):
            with self._lock:
                if not self._tickets:
                    return True
            if time.monotonic() >= end:
                break
        return False

    def stop(self) -> None:
        """Ends the engine process and waits for it; requests in flight fail."""
        self._stopping.set()
        with self._lock:
            channel = self._channel
            tickets = list(self._tickets.values())
            self._tickets.clear()
            self._submitted.clear()
        for ticket in tickets:
            ticket.put(_shutting_down())
        if channel is not None:
            # Nothing is sent: that would wait for an engine which does not read any more.
            channel.close()
        if self._thread.is_alive():
            self._thread.join(2 * engine_process.EXIT_GRACE_S + 1.0)

    def health(self) -> Health:
        with self._lock:
            n = len(self._tickets)
            running = min(n, self._config.parallel)
            draining = self._draining or self._stopping.is_set()
            engine = self._engine
            age = used = cached = None
            if engine is not None and self._beat is not None:
                at, beat = self._beat
                used, cached = beat.kv_cells_used, beat.kv_cells_cached
                if beat.idle_s is not None:
                    age = beat.idle_s + time.monotonic() - at
            return Health(
                "draining" if draining else self._state,
                "The server is shutting down." if draining else self._reason,
                self._progress,
                running,
                n - running,
                self._restarts,
                engine,
                self._load_s,
                age,
                None if engine is None else engine.kv_cells,
                used,
                cached,
            )

    def engine(self) -> Ready:
        """What the engine said of its model. Raises ApiError when no request can be served."""
        with self._lock:
            return self._ready()

    def check_room(self) -> None:
        """Raises ApiError (429) when a request would be refused for want of room, before any work
        is done for it; `submit` is what decides."""
        with self._lock:
            self._check_room()

    def submit(self, command: Submit | Tokenize | Detokenize) -> Ticket:
        """Sends a command to the engine, with a new id. Raises ApiError: 429 when the queue is
        full, 503 while the model loads, 500 when it cannot be loaded."""
        with self._lock:
            self._ready()
            self._check_room()
            ticket = Ticket(next(self._ids), self._cancel)
            self._tickets[ticket.id] = ticket
            self._submitted[ticket.id] = time.monotonic()
            channel = self._channel
            assert channel is not None  # as the state is ready
        # If the engine died just now, the supervisor's thread puts its end on the ticket.
        with contextlib.suppress(OSError):
            channel.send_command(msgspec.structs.replace(command, id=ticket.id))
        return ticket

    def _check_room(self) -> None:
        """Raises when the queue is full; the lock is held."""
        n = len(self._tickets)
        if n >= self._config.parallel + self._config.queue:
            waiting = max(n - self._config.parallel, 0)
            raise queue_full(n - waiting, waiting, self._retry_after(waiting))

    def _ready(self) -> Ready:
        """Raises unless the state is ready; the lock is held."""
        if self._stopping.is_set() or self._draining:
            raise _shutting_down()
        if self._state == "ready":
            assert self._engine is not None
            return self._engine
        if self._state == "failed":
            raise model_unavailable(self._reason or "The model cannot be used.")
        if self._state == "restarting":
            raise not_ready(f"The engine is being restarted: {self._reason}", "restarting", 2)
        percent = round(100 * (self._progress or 0.0))
        raise not_ready(f"The model is being loaded ({percent} %).", "loading", 2)

    def _retry_after(self, waiting: int) -> int:
        """Seconds until a place is free, by how long the last requests took."""
        rounds = (waiting + 1) / self._config.parallel
        return max(1, min(math.ceil(rounds * self._mean_seconds), 60))

    def _cancel(self, id: int) -> None:
        with self._lock:
            known = self._tickets.pop(id, None)
            self._submitted.pop(id, None)
            channel = self._channel
        if known is not None and channel is not None:
            with contextlib.suppress(OSError):  # it died, and the request with it
                channel.send_command(Cancel(id))

    def _run(self) -> None:
        """The supervisor's thread: one engine process after the other."""
        while not self._stopping.is_set():
            try:
                model = _checked(self._config.model_path)
            except _ModelError as error:
                self._fail(str(error))
                return
            death = self._memory_problem(model) or self._live()
            if self._stopping.is_set() or self._state == "failed":
                return
            self._crashed(death)
            if self._crashes_in_row >= len(BACKOFF_S):
                self._fail(
                    f"The engine stopped {self._crashes_in_row} times in a row, the last time "
                    f"because: {self._reason}"
                )
                return
            self._stopping.wait(BACKOFF_S[self._crashes_in_row - 1])

    def _memory_problem(self, model: gguf.GGUF) -> str | None:
        """A model that cannot fit fails at the start. Later, when one has fitted already, memory
        may be short for a while: that is as good as a crash."""
        problem = preflight.problem(self._config, model, preflight.free_memory())
        if problem is not None and not self._restarts:
            self._fail(problem)
        return None if problem is None else f"was not started: {problem}"

    def _live(self) -> str:
        """One engine process from its start to its end; how it ended."""
        try:
            process = EngineProcess(self._command, self._config.hang_timeout)
        except OSError as error:
            return f"could not be started: {error}"
        began = time.monotonic()
        with self._lock:
            self._channel = process.channel
            if self._stopping.is_set():  # and `stop` has not seen this channel
                process.channel.close()

        def take(event: Event) -> bool:
            if isinstance(event, Ready):
                self._load_s = time.monotonic() - began
            self._take(event)
            return self._state != "failed"

        return process.run(_start(self._config), take)

    def _take(self, event: Event) -> None:
        if isinstance(event, Beat):
            with self._lock:
                self._beat = time.monotonic(), event
        elif isinstance(event, Loading):
            with self._lock:
                self._progress = event.fraction
            if self._on_load is not None:
                self._on_load(event.fraction)
        elif isinstance(event, Ready):
            with self._lock:
                self._state, self._reason, self._progress = "ready", None, None
                self._engine = event
            self._log_ready(event)
        elif isinstance(event, LoadFailed):
            self._fail(event.reason)
        else:
            self._deliver(event)

    def _log_ready(self, engine: Ready) -> None:
        log.info(
            "ready: %s, %.2f GB, %s prompts; %d threads, chunks of %d, kernel %s",
            self._config.model_path.name,
            engine.model_bytes / 1e9,
            engine.dialect.name,
            engine.n_threads,
            engine.chunk,
            engine.kernel or "off",
        )
        log.info("%s", _pool_line(self._config, engine))
        if self._config.context_size > engine.n_ctx_train:
            log.warning(
                "LLM_CONTEXT_SIZE is %d, but the model was trained for %d tokens: longer "
                "conversations may become nonsense",
                self._config.context_size,
                engine.n_ctx_train,
            )

    def _deliver(self, event: RequestEvent) -> None:
        last = isinstance(event, LAST_EVENTS)
        with self._lock:
            ticket = self._tickets.get(event.id)
            if last:
                self._tickets.pop(event.id, None)
                began = self._submitted.pop(event.id, None)
                if isinstance(event, Finished) and began is not None:
                    self._crashes_in_row = 0
                    seconds = time.monotonic() - began
                    self._mean_seconds += 0.2 * (seconds - self._mean_seconds)
        if ticket is not None:
            ticket.put(event)

    def _fail(self, reason: str) -> None:
        log.error("%s", reason)
        with self._lock:
            self._state, self._reason, self._progress = "failed", reason, None

    def _crashed(self, death: str) -> None:
        reason = f"the engine process {death}"
        log.error("%s", reason)
        with self._lock:
            self._state, self._reason, self._progress = "restarting", reason, 0.0
            self._engine = self._channel = self._beat = None
            self._restarts += 1
            self._crashes_in_row += 1
            tickets = list(self._tickets.values())
            self._tickets.clear()
            self._submitted.clear()
        for ticket in tickets:
            ticket.put(engine_crashed(reason))


def _start(config: Config) -> Start:
    tuned = None
    if (found := config.tuned) is not None:
        tuned = TunedFor(os.fspath(found.path), found.cpu, found.model, untuned(config))
    return Start(
        os.fspath(config.model_path),
        config.context_size,
        config.parallel,
        config.threads,
        config.log_level,
        config.chunk,
        config.kernel,
        config.kv_type,
        tuned,
        config.speculation == "on",
    )


def _pool_line(config: Config, engine: Ready) -> str:
    """What the KV cache has room for, and what changes that."""
    n, size, gb = config.parallel, config.context_size, engine.kv_bytes / 1e9
    line = (
        f"KV cache: room for {n} conversation{'s' * (n > 1)} of {size} tokens at once, in "
        f"{engine.kv_type} {gb:.2f} GB ({gb / n:.2f} GB each); LLM_PARALLEL changes the number, "
        "LLM_CONTEXT_SIZE the length"
    )
    return line + (", LLM_KV_TYPE=q8_0 halves the memory" if engine.kv_type == "f16" else "")


class _ModelError(Exception):
    """The file is no model; the message says so."""


def _checked(path: Path) -> gguf.GGUF:
    """What the header says of a model. Raises _ModelError."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return gguf.check(path)
        what = "is no file"
    except (FileNotFoundError, NotADirectoryError):
        what = "does not exist"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    except gguf.GGUFError as error:
        what = f"{error}"
    raise _ModelError(f"The model {path} {what}. Set LLM_MODEL_PATH to a GGUF file.")


def _shutting_down() -> ApiError:
    return not_ready("The server is shutting down.", "shutting_down", 5)
