"""Follows one answer in its grammar on a separate thread, so that nothing else waits while a
grammar is compiled or a mask computed. Knows constraints and threads, not models."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..priority import give_way
from .constraint import STACK, Constraint, ConstraintError

log = logging.getLogger(__name__)

PATIENCE_S = 0.02
"""Seconds that a grammar or mask may take before its thread gives way to all others."""


class Follower:
    """Follows one answer. `compile` returns the constraint; after that, each token taken produces a
    mask for the next one. `wake` is called, on this thread, when a result is ready that `wait` gave
    up on.

    `gives_way` lowers the thread's priority from the start, for a costly grammar.
    """

    def __init__(
        self, compile: Callable[[], Constraint], wake: Callable[[], None], gives_way: bool
    ) -> None:
        self._compile = compile
        self._wake = wake
        self._gives_way = gives_way
        self._changed = threading.Condition()
        self._ready = False
        self._missed = True
        self._since = 0.0
        self._closed = False
        self._token: int | None = None
        self._constraint: Constraint | None = None
        self._thread = threading.Thread(target=self._run, name="grammar", daemon=True)
        self.failure: str | None = None
        """Why the grammar cannot be followed any further."""
        self.complete = False
        """Whether only the answer's end can follow."""

    def start(self) -> None:
        self._since = time.monotonic()
        before = threading.stack_size(2 * STACK)
        try:
            self._thread.start()
        finally:
            threading.stack_size(before)

    def wait(self, seconds: float) -> bool:
        """Waits up to `seconds`; returns whether the next mask, or the reason why there is none, is
        ready. A thread that takes long gives way to all others from then on."""
        with self._changed:
            if not self._ready and seconds > 0:
                self._changed.wait_for(lambda: self._ready, seconds)
            self._missed = not self._ready
        late = self._missed and time.monotonic() - self._since > PATIENCE_S
        if late and not self._gives_way:
            self._gives_way = True
            self._give_way()
        return not self._missed

    @property
    def mask(self) -> npt.NDArray[np.uint32]:
        """The tokens that may come next. Valid once ready, unless complete or failed. Raises
        RuntimeError before it is ready."""
        if self._constraint is None or not self._ready:
            raise RuntimeError("there is no mask yet")
        return self._constraint.mask

    def take(self, token: int) -> None:
        """Takes the token that was sampled with the mask."""
        with self._changed:
            self._token = token
            self._ready = False
            self._since = time.monotonic()
            self._changed.notify_all()

    def close(self) -> None:
        """Stops following the answer. A mask that is being computed is still finished."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            if self._gives_way:
                self._give_way()
            self._constraint = self._compile()
            self._follow(self._constraint)
        except ConstraintError as error:
            self.failure = str(error)
        except BaseException as error:  # a Rust panic is not an Exception
            log.exception("a grammar cannot be followed")
            self.failure = f"the grammar's thread failed: {type(error).__name__}"
        if self.failure is not None:
            self._publish()

    def _follow(self, constraint: Constraint) -> None:
        while True:
            self.complete = constraint.complete
            if not self.complete:
                constraint.compute_mask()
            self._publish()
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._token is not None)
                token, self._token = self._token, None
                if self._closed or token is None:
                    return
            constraint.accept(token)

    def _publish(self) -> None:
        with self._changed:
            self._ready = True
            missed = self._missed
            self._changed.notify_all()
        if missed:
            self._wake()

    def _give_way(self) -> None:
        if self._thread.native_id is not None:
            give_way(self._thread.native_id)
