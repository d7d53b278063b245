"""The parent's side of the engine: keeps a process of it alive, admits requests, and hands each
one's events to whoever waits for them. Knows nothing of HTTP, prompts or native code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from . import engine_process, gguf, preflight
from .config import Config, untuned
from .engine.messages import (
    Beat,
    Cancel,
    Channel,
    Detokenize,
    Event,
    Finished,
    LoadFailed,
    Loading,
    Ready,
    Start,
    Submit,
    Tokenize,
    TunedFor,
)
from .engine_process import EngineProcess
from .errors import ApiError, engine_crashed, model_unavailable, not_ready
from .tickets import Ticket, Tickets

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


class Supervisor:
    """Keeps one engine process alive.

    A crash fails the requests in flight; none is repeated by itself.

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
        self._tickets = Tickets(config.parallel, config.queue)
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
            if not any(self._tickets.count()):
                return True
            if time.monotonic() >= end:
                break
        return False

    def stop(self) -> None:
        """Ends the engine process and waits for it; requests in flight fail."""
        self._stopping.set()
        with self._lock:
            channel = self._channel
            tickets = self._tickets.close_all()
        for ticket in tickets:
            ticket.put(_shutting_down())
        if channel is not None:
            # Nothing is sent: that would wait for an engine which does not read any more.
            channel.close()
        if self._thread.is_alive():
            self._thread.join(2 * engine_process.EXIT_GRACE_S + 1.0)

    def health(self) -> Health:
        with self._lock:
            running, queued = self._tickets.count()
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
                queued,
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
        self._tickets.check_room()

    def submit(self, command: Submit | Tokenize | Detokenize) -> Ticket:
        """Sends a command to the engine, with a new id. Raises ApiError: 429 when the queue is
        full, 503 while the model loads, 500 when it cannot be loaded."""
        with self._lock:
            self._ready()
            ticket = self._tickets.open(self._cancel)
            channel = self._channel
            assert channel is not None  # as the state is ready
        # If the engine died just now, the supervisor's thread puts its end on the ticket.
        with contextlib.suppress(OSError):
            channel.send_command(msgspec.structs.replace(command, id=ticket.id))
        return ticket

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

    def _cancel(self, id: int) -> None:
        with self._lock:
            known = self._tickets.close(id)
            channel = self._channel
        if known and channel is not None:
            with contextlib.suppress(OSError):  # it died, and the request with it
                channel.send_command(Cancel(id))

    def _run(self) -> None:
        """The supervisor's thread: one engine process after the other."""
        while not self._stopping.is_set():
            try:
                model = preflight.header(self._config.model_path)
            except preflight.ModelError as error:
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
        elif self._tickets.deliver(event) and isinstance(event, Finished):
            self._crashes_in_row = 0

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
            tickets = self._tickets.close_all()
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


def _shutting_down() -> ApiError:
    return not_ready("The server is shutting down.", "shutting_down", 5)
