"""The parent's side of the engine: keeps an engine process alive while there is work for it, and
admits requests. Knows nothing of HTTP, prompts or native code."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import heap
from ..clients import Client
from ..config import Config
from ..errors import EngineCrashedError, ModelUnavailableError
from ..kvstore.owners import owner_of
from ..logs import escaped
from ..protocol.commands import Detokenize, Forget, Submit, Tokenize
from ..protocol.events import Beat, Event, LoadFailed, Loading, Ready
from . import gguf, preflight, sampling
from . import process as engine_process
from .cache import Cache
from .commands import ready_lines, ready_warnings, start_of
from .deaths import Deaths
from .health import Health
from .process import End, EngineProcess
from .sampling import Defaults
from .standing import Standing, shutting_down
from .tickets import Ticket
from .traffic import Traffic
from .watch import LOOK_S, BeingWrittenError, Watch

log = logging.getLogger(__name__)

ENGINE_COMMAND = (sys.executable, "-m", "sheily_server.engine")
_NUMBER = re.compile(r"[\d,.]+")
KEEPING_S = 14.0
"""How long the engine may take to write to the disk what it has, when it ends."""
MOST_REASON = 2000
"""Maximum characters of a reason, which may contain the engine's own words."""


@dataclass(slots=True)
class Life:
    """One engine process: when it was started, when it had loaded its model, and whether it is
    ended because it had nothing to do."""

    began: float = field(default_factory=time.monotonic)
    ready_at: float | None = None
    was_idle: bool = False


class Supervisor:
    """Keeps one engine process alive. One that had no request for `idle_unload` seconds is ended,
    and the next request starts another.

    A crash fails all requests in flight; none is retried automatically. A request that was in
    native code at two deaths that the engine died by itself runs alone the next time it is sent. If
    the engine dies of it again, it is refused from then on. Once an engine has answered a request,
    deaths caused by requests that ran alone never end the service for the others, however many
    there are.

    `on_load` is called on the supervisor's thread with the fraction of the model that is loaded.
    `command` starts the engine; its socket's file descriptor number is appended. `cache` is the
    prefix cache's folder, if there is one.
    """

    def __init__(
        self,
        config: Config,
        on_load: Callable[[float], None] | None = None,
        command: Sequence[str] = ENGINE_COMMAND,
        cache: Cache | None = None,
    ) -> None:
        self._config = config
        self._on_load = on_load
        self._command = command
        self.cache = cache
        self._keeping_s = 0.0 if cache is None else KEEPING_S
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        """Told when a request wakes the engine, and at the end."""
        self._deaths = Deaths()
        self._standing = Standing(config)
        self._traffic = Traffic(config, self._lock, self._deaths)
        self._process: EngineProcess | None = None
        self._file = preflight.ModelFile(config.model_path)
        self._stopping = threading.Event()
        self._draining = False
        self._failed_before = ""
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Starts loading the model; returns at once."""
        self._thread.start()

    def drain(self, timeout: float) -> bool:
        """Stops admitting requests and waits up to `timeout` seconds for those admitted; returns
        whether all of them ended. Those for which the engine wakes end at once."""
        with self._lock:
            self._draining = True
            asleep = self._is_asleep()
        if asleep:
            self._traffic.end_all(shutting_down())
        end = time.monotonic() + timeout
        while not self._stopping.wait(0.02):
            if not self._traffic.tickets:
                return True
            if time.monotonic() >= end:
                break
        return False

    def stop(self) -> None:
        """Ends the engine process and waits for it. Requests in flight fail."""
        self._stopping.set()
        with self._lock:
            process = self._process
            self._changed.notify_all()
        self._traffic.end_all(shutting_down())
        if process is not None:
            process.close()
        if self._thread.is_alive():
            self._thread.join(2 * engine_process.EXIT_GRACE_S + self._keeping_s + 1.0)

    @property
    def busy(self) -> int:
        """How many requests are admitted and have not ended."""
        return len(self._traffic.tickets)

    def defaults(self) -> Defaults:
        """Returns what sampling follows where a request says nothing."""
        with self._lock:
            return self._standing.defaults

    def health(self) -> Health:
        with self._lock:
            return self._standing.health(
                self._traffic.tickets.count(), self._deaths.count, self._is_ending()
            )

    def check_room(self, client: Client) -> None:
        """Raises QueueFullError when there is no room for a client, before any work is done for a
        request. `enter` has the final say."""
        self._traffic.tickets.check_room(client)

    def queue_place(self, ticket: Ticket) -> int | None:
        """Returns the place of a request among those that wait; None once it runs."""
        return self._traffic.tickets.queue_place(ticket.id)

    def enter(self, choices: int = 0, trims: bool = False, client: Client = ()) -> Ticket:
        """Gives a client's request its place, and wakes an engine that sleeps. What is asked of the
        engine follows with `submit`, once it is `awake`; else cancel the ticket. With `trims`,
        TooLong does not end the ticket: follow it with `submit_again` or a cancel.

        Raises QueueFullError, NotReadyError while the model loads, and ModelUnavailableError when
        it cannot be loaded.
        """
        with self._lock:
            if self._is_ending() or not self._is_asleep():
                self._ready()
            ticket = self._traffic.open(choices, trims, client)
            if self._standing.state == "sleeping":
                self._standing.change("waking")
                self._changed.notify_all()
            return ticket

    def awake(self) -> bool:
        """Whether the engine neither sleeps nor wakes; `engine` says whether it serves."""
        with self._lock:
            return self._is_ending() or not self._is_asleep()

    def engine(self) -> Ready:
        """Returns the engine's report on its model. Raises ServiceError when it cannot serve."""
        with self._lock:
            return self._ready()

    def forget(self, answer: str) -> None:
        """Has erased from the disk what the conversation of an answer alone has, by the answer's
        id; also while there is no engine."""
        if self.cache is None:
            return
        owner = owner_of(answer)
        with self._lock:
            self._traffic.tell(Forget(owner))
        self.cache.erase(owner)

    def submit(
        self,
        command: Submit | Tokenize | Detokenize,
        trims: bool = False,
        client: Client = (),
        ticket: Ticket | None = None,
    ) -> Ticket:
        """Sends a command to the engine under a ticket of `enter`, or under a new one if the engine
        is awake. Raises what `enter` does, and InvalidRequestError for a command that cannot be
        sent or that the engine died of; any of them ends the ticket."""
        if ticket is None:
            with self._lock:
                self._ready()
                choices = command.n_choices if isinstance(command, Submit) else 0
                ticket = self._traffic.open(choices, trims, client)
        self._traffic.send(ticket, command)
        return ticket

    def submit_again(self, ticket: Ticket, command: Submit | Tokenize | Detokenize) -> None:
        """Sends a shorter command under the id of one that was too long. Raises
        InvalidRequestError, which ends the ticket."""
        self._traffic.send(ticket, command, first=True)

    def _is_ending(self) -> bool:
        return self._draining or self._stopping.is_set()

    def _is_asleep(self) -> bool:
        return self._standing.state in ("sleeping", "waking")

    def _ready(self) -> Ready:
        """Raises unless the state is ready. Call with the lock held."""
        if self._is_ending():
            raise shutting_down()
        return self._standing.engine()

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
                self._standing.change("loading")
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
                self._standing.file(model)
            end = self._memory_problem(model, is_first) or self._live()
            is_first = False
            if self._stopping.is_set() or self._standing.state == "failed":
                return
            if end is None:
                self._sleep()
                continue
            self._crashed(end)
            if self._deaths.too_many:
                self._fail(
                    f"The engine stopped {self._deaths.in_row} times in a row, the last time "
                    f"because: {self._standing.reason}"
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

    def _live(self) -> End | None:
        """Runs one engine process from start to end; returns how it ended, None if because it had
        nothing to do."""
        try:
            process = EngineProcess(self._command, self._config.hang_timeout, self._keeping_s)
        except (OSError, RuntimeError) as error:
            return End(f"could not be started: {error}")
        life = Life()
        with self._lock:
            self._process = process
            self._traffic.carry(process.outbox)
            if self._stopping.is_set():  # `stop` has not seen this process
                process.close()
        end = process.run(start_of(self._config), lambda event: self._take(event, life))
        return None if life.was_idle else end

    def _sleep(self) -> None:
        """Waits without an engine until a request comes, or for the end."""
        heap.give_back_free_memory()
        log.info(
            "sleeping: no request came for %g s (LLM_IDLE_UNLOAD); the next one loads the model",
            self._config.idle_unload,
        )
        with self._changed:
            self._changed.wait_for(
                lambda: self._standing.state != "sleeping" or self._stopping.is_set()
            )
        if not self._stopping.is_set():
            log.info("waking: a request came, and the model is loaded for it")

    def _is_idle(self, ready_at: float) -> bool:
        """Whether there was no request for so long that the engine is ended. From then on it
        sleeps. Call with the lock held."""
        empty_since, most = self._traffic.tickets.empty_since, self._config.idle_unload
        if not most or empty_since is None or self._is_ending():
            return False
        if time.monotonic() - max(ready_at, empty_since) < most:
            return False
        self._standing.change("sleeping")
        self._traffic.carry(None)
        self._process = None
        return True

    def _take(self, event: Event, life: Life) -> bool:
        """Takes an event of an engine; returns whether the engine is to live on."""
        if isinstance(event, Beat):
            now = time.monotonic()
            with self._lock:
                self._standing.beat(now, event)
                self._traffic.beat(now, event)
                life.was_idle = life.ready_at is not None and self._is_idle(life.ready_at)
            return not life.was_idle
        if isinstance(event, Loading):
            with self._lock:
                self._standing.progress = event.fraction
            self._tell_load(event.fraction)
        elif isinstance(event, Ready):
            life.ready_at = time.monotonic()
            with self._lock:
                self._standing.ready(event, life.ready_at - life.began)
            self._tell_ready(event)
        elif isinstance(event, LoadFailed):
            self._fail(event.reason)
            return False
        else:
            self._traffic.take(event)
        return True

    def _tell_ready(self, engine: Ready) -> None:
        defaults = self._standing.defaults
        for sentence in (*ready_lines(self._config, engine), defaults.line()):
            log.info("%s", sentence)
        warnings = sampling.warnings(defaults)
        for sentence in (*ready_warnings(self._config, engine), *warnings):
            log.warning("%s", sentence)

    def _tell_load(self, fraction: float) -> None:
        """Calls `on_load`; its errors must not end the service."""
        try:
            if self._on_load is not None:
                self._on_load(fraction)
        except Exception:
            log.exception("the progress of loading cannot be shown")
            self._on_load = None

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
            self._standing.change("failed", reason)
            self._traffic.carry(None)
            self._process = None
        self._traffic.end_all(ModelUnavailableError(reason))

    def _crashed(self, end: End) -> None:
        reason = f"the engine process {escaped(end.death)}"[:MOST_REASON]
        log.error("%s", reason)
        with self._lock:
            culprit = self._traffic.died(end.by_itself)
            self._standing.change("restarting", reason)
            self._process = None
        self._traffic.end_all(EngineCrashedError(reason), culprit)
