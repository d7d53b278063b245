"""The parent's side of the engine: keeps an engine process alive, admits requests, and delivers
their events to whoever waits for them. Knows nothing of HTTP, prompts or native code."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from ..clients import Client
from ..config import Config
from ..errors import (
    EngineCrashedError,
    ModelUnavailableError,
    NotReadyError,
    RequestCrashesEngineError,
    ServiceError,
)
from ..logs import escaped
from ..protocol.commands import Detokenize, Submit, Tokenize
from ..protocol.events import (
    LAST_EVENTS,
    Admitted,
    Beat,
    Event,
    Finished,
    LoadFailed,
    Loading,
    Ready,
    RequestEvent,
    RequestFailed,
    Started,
)
from . import gguf, preflight, sampling
from . import process as engine_process
from .commands import frame_of, ready_lines, ready_warnings, start_of
from .deaths import Deaths
from .gate import Gate, Passed
from .health import Health
from .process import End, EngineProcess
from .sampling import Defaults
from .suspects import Suspects
from .tickets import Ticket, Tickets
from .watch import LOOK_S, BeingWrittenError, Watch

log = logging.getLogger(__name__)

ENGINE_COMMAND = (sys.executable, "-m", "sheily_server.engine")
_NUMBER = re.compile(r"[\d,.]+")
MOST_REASON = 2000
"""Maximum characters of a reason, which may contain the engine's own words."""


class Supervisor:
    """Keeps one engine process alive.

    A crash fails all requests in flight; none is retried automatically. A request that was in
    native code at two deaths that the engine died by itself runs alone the next time it is sent. If
    the engine dies of it again, it is refused from then on. Once an engine has answered a request,
    deaths caused by requests that ran alone never end the service for the others, however many
    there are.

    `on_load` is called on the supervisor's thread with the fraction of the model that is loaded.
    `command` starts the engine; its socket's file descriptor number is appended.
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
        self._tickets = Tickets(config.parallel, config.queue, self._left)
        self._state = "loading"
        self._reason: str | None = None
        self._progress: float | None = 0.0
        self._engine: Ready | None = None
        self._process: EngineProcess | None = None
        self._gate = Gate()
        self._suspects = Suspects()
        self._file = preflight.ModelFile(config.model_path)
        self._model: gguf.GGUF | None = None
        self._defaults = sampling.defaults(config, None)
        self._deaths = Deaths()
        self._stopping = threading.Event()
        self._draining = False
        self._failed_before = ""
        self._beat: tuple[float, Beat] | None = None
        self._load_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Starts loading the model; returns at once."""
        self._thread.start()

    def drain(self, timeout: float) -> bool:
        """Stops admitting requests and waits up to `timeout` seconds for those admitted; returns
        whether all of them ended."""
        with self._lock:
            self._draining = True
        end = time.monotonic() + timeout
        while not self._stopping.wait(0.02):
            if not self._tickets:
                return True
            if time.monotonic() >= end:
                break
        return False

    def stop(self) -> None:
        """Ends the engine process and waits for it. Requests in flight fail."""
        self._stopping.set()
        with self._lock:
            process = self._process
        self._end_all(_shutting_down())
        if process is not None:
            process.close()
        if self._thread.is_alive():
            self._thread.join(2 * engine_process.EXIT_GRACE_S + 1.0)

    @property
    def busy(self) -> int:
        """How many requests are admitted and have not ended."""
        return len(self._tickets)

    def defaults(self) -> Defaults:
        """Returns what sampling follows where a request says nothing."""
        with self._lock:
            return self._defaults

    def health(self) -> Health:
        with self._lock:
            counts = self._tickets.count()
            draining = self._draining or self._stopping.is_set()
            engine = self._engine
            age = used = cached = None
            if engine is not None and self._beat is not None:
                at, beat = self._beat
                used, cached = beat.kv_cells_used, beat.kv_cells_cached
                if beat.idle_s is not None:
                    age = beat.idle_s + time.monotonic() - at
            return Health(
                state="draining" if draining else self._state,
                reason="The server is shutting down." if draining else self._reason,
                progress=self._progress,
                running=counts.running,
                queued=counts.queued,
                restarts=self._deaths.count,
                engine=engine,
                file=self._model,
                defaults=self._defaults,
                load_s=self._load_s,
                last_step_age_s=age,
                kv_cells=None if engine is None else engine.kv_cells,
                kv_cells_used=used,
                kv_cells_cached=cached,
                answers_running=counts.answers_running,
                answers_queued=counts.answers_queued,
            )

    def engine(self) -> Ready:
        """Returns the engine's report on its model. Raises ServiceError when it cannot serve."""
        with self._lock:
            return self._ready()

    def check_room(self, client: Client) -> None:
        """Raises QueueFullError when there is no room for a client, before any work is done for a
        request. `submit` has the final say."""
        self._tickets.check_room(client)

    def queue_place(self, ticket: Ticket) -> int | None:
        """Returns the place of a request among those that wait; None once it runs."""
        return self._tickets.queue_place(ticket.id)

    def submit(
        self, command: Submit | Tokenize | Detokenize, trims: bool = False, client: Client = ()
    ) -> Ticket:
        """Sends a client's command to the engine under a new id. With `trims`, TooLong does not end
        the ticket: follow it with `submit_again` or a cancel.

        Raises QueueFullError, NotReadyError while the model loads, ModelUnavailableError when it
        cannot be loaded, and InvalidRequestError for a command that cannot be sent or that the
        engine died of.
        """
        with self._lock:
            self._ready()
            choices = command.n_choices if isinstance(command, Submit) else 0
            ticket = self._tickets.open(self._cancel, choices, trims, client)
        self._send(ticket, command)
        return ticket

    def submit_again(self, ticket: Ticket, command: Submit | Tokenize | Detokenize) -> None:
        """Sends a shorter command under the id of one that was too long. Raises
        InvalidRequestError, which ends the ticket."""
        self._send(ticket, command, first=True)

    def _send(
        self, ticket: Ticket, command: Submit | Tokenize | Detokenize, first: bool = False
    ) -> None:
        try:
            frame = frame_of(msgspec.structs.replace(command, id=ticket.id))
            fingerprint = self._suspects.fingerprint(command)
            with self._lock:
                if ticket.id not in self._tickets:  # the engine died and ended the ticket
                    return
                verdict = self._suspects.verdict(fingerprint)
                if verdict == "refused":
                    raise RequestCrashesEngineError()
                suspect = verdict == "alone"
                self._pass(
                    self._gate.arrive(ticket.id, fingerprint, frame, suspect=suspect, first=first)
                )
        except BaseException:
            ticket.cancel()
            raise

    def _ready(self) -> Ready:
        """Raises unless the state is ready. Call with the lock held."""
        if self._stopping.is_set() or self._draining:
            raise _shutting_down()
        if self._state == "ready" and self._engine is not None:
            return self._engine
        if self._state == "failed":
            raise ModelUnavailableError(self._reason or "The model cannot be used.")
        if self._state == "restarting":
            raise NotReadyError(f"The engine is being restarted: {self._reason}", "restarting", 2)
        percent = round(100 * (self._progress or 0.0))
        raise NotReadyError(f"The model is being loaded ({percent} %).", "loading", 2)

    def _cancel(self, id: int) -> None:
        with self._lock:
            if self._tickets.close(id):
                self._left(id)

    def _left(self, id: int) -> None:
        """Takes a request out of the engine whose ticket is closed. Call with the lock held."""
        if self._process is None:
            return
        if not self._gate.is_inside(id) or self._process.outbox.cancel(id):
            self._pass(self._gate.left(id))
        else:
            self._gate.cancelled(id, time.monotonic())

    def _pass(self, passed: Passed) -> None:
        """Sends what the gate lets through. Call with the lock held."""
        if self._process is not None:
            for id, frame in passed:
                self._process.outbox.put(id, frame)

    def _run(self) -> None:
        """Body of the supervisor's thread. Ends in a failed state if it raises."""
        try:
            self._keep_alive()
        except BaseException as error:
            log.exception("the supervisor ended")
            self._fail(f"The server can no longer supervise its engine: {error!r}")

    def _keep_alive(self) -> None:
        """Runs engines. Where there is no model that can be used, waits for another file."""
        while not self._stopping.is_set():
            self._run_engines()
            if not self._stopping.is_set():
                self._await_file()

    def _await_file(self) -> None:
        """Waits until the model's file is another one, which can be loaded, or for the end."""
        watch = Watch(self._config.model_path, self._file.mark)
        while not self._stopping.wait(LOOK_S):
            try:
                if watch.look() is None:
                    continue
            except BeingWrittenError as error:
                self._fail(str(error), level=logging.INFO)
                continue
            except preflight.ModelError as error:
                self._fail(str(error), error.commands)
                continue
            log.info("loading the model, whose file is there now: %s", self._config.model_path)
            with self._lock:
                self._state, self._reason, self._progress = "loading", None, 0.0
                self._deaths.begin_anew()
                self._failed_before = ""
            return

    def _run_engines(self) -> None:
        """Runs one engine process after another, until the model cannot be used or the end."""
        is_first = True
        while not self._stopping.is_set():
            try:
                model = self._file.header()
            except preflight.ModelError as error:
                self._fail(str(error), error.commands)
                return
            with self._lock:
                self._model = model
                self._defaults = sampling.defaults(self._config, model)
            end = self._memory_problem(model, is_first) or self._live()
            is_first = False
            if self._stopping.is_set() or self._state == "failed":
                return
            self._crashed(end)
            if self._deaths.too_many:
                self._fail(
                    f"The engine stopped {self._deaths.in_row} times in a row, the last time "
                    f"because: {self._reason}"
                )
                return
            self._stopping.wait(self._deaths.backoff_s)

    def _memory_problem(self, model: gguf.GGUF, is_first: bool) -> End | None:
        """Fails at a model's first start when it cannot fit. Later, memory may only be short for a
        while, so that counts as a crash."""
        problem = preflight.problem(self._config, model, preflight.free_memory())
        if problem is not None and is_first:
            self._fail(problem)
        return None if problem is None else End(f"was not started: {problem}")

    def _live(self) -> End:
        """Runs one engine process from start to end; returns how it ended."""
        try:
            process = EngineProcess(self._command, self._config.hang_timeout)
        except (OSError, RuntimeError) as error:
            return End(f"could not be started: {error}")
        began = time.monotonic()
        with self._lock:
            self._process = process
            if self._stopping.is_set():  # `stop` has not seen this process
                process.close()

        def take(event: Event) -> bool:
            if isinstance(event, Ready):
                self._load_s = time.monotonic() - began
            self._take(event)
            return self._state != "failed"

        return process.run(start_of(self._config), take)

    def _take(self, event: Event) -> None:
        if isinstance(event, Beat):
            now = time.monotonic()
            with self._lock:
                self._beat = now, event
                self._pass(self._gate.beat(now, event))
        elif isinstance(event, Loading):
            with self._lock:
                self._progress = event.fraction
            self._tell_load(event.fraction)
        elif isinstance(event, Ready):
            with self._lock:
                self._state, self._reason, self._progress = "ready", None, None
                self._engine = event
            for sentence in (*ready_lines(self._config, event), self._defaults.line()):
                log.info("%s", sentence)
            warnings = sampling.warnings(self._defaults)
            for sentence in (*ready_warnings(self._config, event), *warnings):
                log.warning("%s", sentence)
        elif isinstance(event, LoadFailed):
            self._fail(event.reason)
        else:
            self._take_request(event)

    def _tell_load(self, fraction: float) -> None:
        """Calls `on_load`; its errors must not end the service."""
        try:
            if self._on_load is not None:
                self._on_load(fraction)
        except Exception:
            log.exception("the progress of loading cannot be shown")
            self._on_load = None

    def _take_request(self, event: RequestEvent) -> None:
        with self._lock:
            if isinstance(event, Admitted):
                self._gate.admitted(event.id)
            elif isinstance(event, Started):
                self._gate.started(event.id)
            elif isinstance(event, LAST_EVENTS):
                if isinstance(event, Finished):
                    self._works()
                if event.id == self._gate.alone and not isinstance(event, RequestFailed):
                    self._suspects.clear(self._gate.fingerprint(event.id))
                self._pass(self._gate.left(event.id))
            self._tickets.deliver(event)

    def _works(self) -> None:
        """Records that a request was answered to its end. Call with the lock held."""
        self._deaths.answered()
        if self._gate.wary:
            self._gate.wary = False
            log.warning("a request was answered: requests run together again")

    def _fail(self, reason: str, commands: Sequence[str] = (), level: int = logging.ERROR) -> None:
        """Fails for a reason, which a line for each command follows. What only counts on since the
        last time, as a file does that grows, is logged at the level debug."""
        reason = escaped(reason)[:MOST_REASON]
        before, self._failed_before = self._failed_before, _NUMBER.sub("", reason)
        level = logging.DEBUG if before == self._failed_before else level
        for line in (reason, *(f"  {command}" for command in commands)):
            log.log(level, "%s", line)
        reason = "\n".join((reason, *commands))
        with self._lock:
            self._state, self._reason, self._progress = "failed", reason, None
            self._engine = self._process = self._beat = None
        self._end_all(ModelUnavailableError(reason))

    def _crashed(self, end: End) -> None:
        reason = f"the engine process {escaped(end.death)}"[:MOST_REASON]
        log.error("%s", reason)
        with self._lock:
            alone, culprit = self._blame() if end.by_itself else (None, None)
            self._state, self._reason, self._progress = "restarting", reason, 0.0
            self._engine = self._process = self._beat = None
            if self._deaths.died(end.by_itself, alone is not None, culprit is not None):
                self._gate.wary = True
                log.warning("requests run one at a time until one is answered")
        self._end_all(EngineCrashedError(reason), culprit)

    def _blame(self) -> tuple[int | None, int | None]:
        """Blames the requests that were in native code when the engine died by itself. Convicts a
        suspect that was alone in the engine. Returns the request that was alone, and the same again
        if it was convicted. Call with the lock held."""
        unwritten = self._process.outbox.unwritten() if self._process is not None else ()
        alone = self._gate.alone
        if alone is not None and alone not in unwritten:
            fingerprint = self._gate.fingerprint(alone)
            if self._suspects.verdict(fingerprint) != "free":
                self._suspects.convict(fingerprint)
                log.error(
                    "refusing a request from now on: the engine died of it again while it ran alone"
                )
                return alone, alone
        self._suspects.blame(self._gate.native(unwritten))
        return (None if alone in unwritten else alone), None

    def _end_all(self, error: ServiceError, culprit: int | None = None) -> None:
        """Ends every request with an error; the culprit's error says not to send it again."""
        with self._lock:
            self._gate.clear()
            tickets = self._tickets.close_all()
        for ticket in tickets:
            ticket.put(RequestCrashesEngineError() if ticket.id == culprit else error)


def _shutting_down() -> ServiceError:
    return NotReadyError("The server is shutting down.", "shutting_down", 5)
