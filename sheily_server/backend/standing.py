"""How the engine stands: what `/health` says of it, and what a request gets that it cannot serve.
Pure: knows events and seconds, and neither processes nor requests."""

from __future__ import annotations

import time

from ..config import Config
from ..errors import ModelUnavailableError, NotReadyError, ServiceError
from ..protocol.events import Beat, Ready
from . import sampling
from .gguf import GGUF
from .health import LOADS, Health
from .tickets import Counts


class Standing:
    """The state of the engine, its report on its model, and its last sign of life. Not
    thread-safe."""

    def __init__(self, config: Config) -> None:
        self.state = "loading"
        self.reason: str | None = None
        self.progress: float | None = 0.0
        self.defaults = sampling.defaults(config, None)
        self._config = config
        self._model: GGUF | None = None
        self._engine: Ready | None = None
        self._beat: tuple[float, Beat] | None = None
        self._load_s: float | None = None

    def change(self, state: str, reason: str | None = None) -> None:
        """Enters a state in which there is no engine that serves. `reason` says why."""
        self.state, self.reason = state, reason
        self.progress = 0.0 if state in LOADS else None
        self._engine = self._beat = None

    def ready(self, engine: Ready, load_s: float) -> None:
        """Enters the state in which an engine serves; it took `load_s` to load."""
        self.state, self.reason, self.progress = "ready", None, None
        self._engine, self._load_s = engine, load_s

    def file(self, model: GGUF) -> None:
        """Records the header of the model's file."""
        self._model = model
        self.defaults = sampling.defaults(self._config, model)

    def beat(self, now: float, beat: Beat) -> None:
        self._beat = now, beat

    def engine(self) -> Ready:
        """Returns the engine's report. Raises ServiceError when it cannot serve."""
        if self.state == "ready" and self._engine is not None:
            return self._engine
        if self.state == "failed":
            raise ModelUnavailableError(self.reason or "The model cannot be used.")
        if self.state == "restarting":
            raise NotReadyError(f"The engine is being restarted: {self.reason}", "restarting", 2)
        percent = round(100 * (self.progress or 0.0))
        raise NotReadyError(f"The model is being loaded ({percent} %).", "loading", 2)

    def health(self, counts: Counts, restarts: int, draining: bool) -> Health:
        engine = self._engine
        age = used = cached = disk = None
        if engine is not None and self._beat is not None:
            at, beat = self._beat
            used, cached, disk = beat.kv_cells_used, beat.kv_cells_cached, beat.disk
            if beat.idle_s is not None:
                age = beat.idle_s + time.monotonic() - at
        return Health(
            state="draining" if draining else self.state,
            reason="The server is shutting down." if draining else self.reason,
            progress=self.progress,
            running=counts.running,
            queued=counts.queued,
            restarts=restarts,
            engine=engine,
            file=self._model,
            defaults=self.defaults,
            load_s=self._load_s,
            last_step_age_s=age,
            kv_cells=None if engine is None else engine.kv_cells,
            kv_cells_used=used,
            kv_cells_cached=cached,
            disk=disk,
            answers_running=counts.answers_running,
            answers_queued=counts.answers_queued,
        )


def shutting_down() -> ServiceError:
    return NotReadyError("The server is shutting down.", "shutting_down", 5)
