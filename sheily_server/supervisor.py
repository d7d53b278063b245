"""The parent's side of the engine: starts the process, watches it, restarts it, and hands each
request's events to whoever waits for them. Knows nothing of HTTP, prompts or native code."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import queue
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from .config import Config, untuned
from .engine.messages import (
    LAST_EVENTS,
    Cancel,
    Channel,
    Detokenize,
    Event,
    Finished,
    LoadFailed,
    Loading,
    ProtocolError,
    Ready,
    RequestEvent,
    Start,
    Submit,
    Tokenize,
    TunedFor,
)
from .errors import ApiError, engine_crashed, model_unavailable, not_ready, queue_full

log = logging.getLogger(__name__)

ENGINE_COMMAND = (sys.executable, "-m", "sheily_server.engine")
BACKOFF_S = (0.1, 0.5, 2.0, 10.0, 30.0)
EXIT_GRACE_S = 2.0
_LOG_LEVELS = {"D": 10, "I": 20, "W": 30, "E": 40, "F": 50}


@dataclass(frozen=True, slots=True)
class Health:
    """What `/health` says. `state` is loading, ready, restarting or failed; `progress` (0 to 1) is
    there while a model loads; `reason` says why the state is not ready."""

    state: str
    reason: str | None
    progress: float | None
    running: int
    restarts: int
    engine: Ready | None


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
        self._last_words = ""
        self._mean_seconds = 1.0
        self._submitted: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begins to load the model; returns at once."""
        self._thread.start()

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
            self._thread.join(2 * EXIT_GRACE_S + 1.0)

    def health(self) -> Health:
        with self._lock:
            return Health(
                self._state,
                self._reason,
                self._progress,
                len(self._tickets),
                self._restarts,
                self._engine,
            )

    def engine(self) -> Ready:
        """What the engine said of its model. Raises ApiError when no request can be served."""
        with self._lock:
            return self._ready()

    def submit(self, command: Submit | Tokenize | Detokenize) -> Ticket:
        """Sends a command to the engine, with a new id. Raises ApiError: 429 when the queue is
        full, 503 while the model loads, 500 when it cannot be loaded."""
        with self._lock:
            self._ready()
            n = len(self._tickets)
            if n >= self._config.parallel + self._config.queue:
                waiting = max(n - self._config.parallel, 0)
                raise queue_full(n - waiting, waiting, self._retry_after(waiting))
            ticket = Ticket(next(self._ids), self._cancel)
            self._tickets[ticket.id] = ticket
            self._submitted[ticket.id] = time.monotonic()
            channel = self._channel
            assert channel is not None  # as the state is ready
        # If the engine died just now, the supervisor's thread puts its end on the ticket.
        with contextlib.suppress(OSError):
            channel.send_command(msgspec.structs.replace(command, id=ticket.id))
        return ticket

    def _ready(self) -> Ready:
        """Raises unless the state is ready; the lock is held."""
        if self._stopping.is_set():
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
            problem = _file_problem(self._config.model_path)
            if problem is not None:
                self._fail(problem)
                return
            try:
                death = self._live()
            except OSError as error:
                death = f"could not be started: {error}"
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

    def _live(self) -> str:
        """One engine process from its start to its end; how it ended. Raises OSError when there
        can be none."""
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        self._last_words = ""
        try:
            with theirs:
                process = subprocess.Popen(
                    [*self._command, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
        except OSError:
            channel.close()
            raise
        assert process.stderr is not None
        relay = threading.Thread(
            target=self._relay, args=(process.stderr,), name="engine-log", daemon=True
        )
        relay.start()
        self._send_start(channel)
        nonsense = self._read(channel)
        channel.close()  # which is the engine's sign to leave, if it has not
        try:
            code = process.wait(EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        relay.join(EXIT_GRACE_S)
        return nonsense or _death(code)

    def _send_start(self, channel: Channel) -> None:
        with self._lock:
            self._channel = channel
            if self._stopping.is_set():  # and `stop` has not seen this channel
                channel.close()
        with contextlib.suppress(OSError):  # it is dead already, which `_read` will find
            channel.send_command(_start(self._config))

    def _read(self, channel: Channel) -> str | None:
        """Takes events until the engine closes its end, which it does by dying at the latest, or
        cannot load the model, or sends nonsense: then that is returned as the way it ended."""
        while self._state != "failed":
            try:
                events = channel.receive_events()
            except ProtocolError as error:
                return f"sent nonsense: {error}"
            if events is None:
                return None
            for event in events:
                self._take(event)
        return None

    def _take(self, event: Event) -> None:
        if isinstance(event, Loading):
            with self._lock:
                self._progress = event.fraction
            if self._on_load is not None:
                self._on_load(event.fraction)
        elif isinstance(event, Ready):
            with self._lock:
                self._state, self._reason, self._progress = "ready", None, None
                self._engine = event
            log.info(
                "ready: %s, %.2f GB, %s prompts; %d threads, chunks of %d, kernel %s",
                self._config.model_path.name,
                event.model_bytes / 1e9,
                event.dialect.name,
                event.n_threads,
                event.chunk,
                event.kernel or "off",
            )
            log.info("%s", _pool_line(self._config, event))
            if self._config.context_size > event.n_ctx_train:
                log.warning(
                    "LLM_CONTEXT_SIZE is %d, but the model was trained for %d tokens: longer "
                    "conversations may become nonsense",
                    self._config.context_size,
                    event.n_ctx_train,
                )
        elif isinstance(event, LoadFailed):
            self._fail(event.reason)
        else:
            self._deliver(event)

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
        if self._last_words:
            reason += f"; its last words: {self._last_words}"
        log.error("%s", reason)
        with self._lock:
            self._state, self._reason, self._progress = "restarting", reason, 0.0
            self._engine = self._channel = None
            self._restarts += 1
            self._crashes_in_row += 1
            tickets = list(self._tickets.values())
            self._tickets.clear()
            self._submitted.clear()
        for ticket in tickets:
            ticket.put(engine_crashed(reason))

    def _relay(self, stderr: IO[bytes]) -> None:
        """Writes the engine's tagged lines to this process's log, and keeps the last bad one."""
        for raw in stderr:
            line = raw.decode("utf-8", "replace").rstrip()
            tagged = line[1:2] == " " and line[:1] in _LOG_LEVELS
            level = _LOG_LEVELS[line[0]] if tagged else logging.ERROR
            text = line[2:] if tagged else line
            if level >= logging.ERROR:
                self._last_words = text
            if text:
                log.log(level, "engine: %s", text)
        stderr.close()


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


def _file_problem(path: Path) -> str | None:
    """Why a path is no model file, as far as can be seen without reading it."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return None
        what = "is no file"
    except (FileNotFoundError, NotADirectoryError):
        what = "does not exist"
    except OSError as error:
        what = f"cannot be looked at ({error.strerror})"
    return f"The model {path} {what}. Set LLM_MODEL_PATH to a GGUF file."


def _shutting_down() -> ApiError:
    return not_ready("The server is shutting down.", "shutting_down", 5)


def _death(code: int) -> str:
    if code >= 0:
        return f"left with exit code {code}"
    try:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed by signal {-code}"
