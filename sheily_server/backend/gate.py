"""Which requests are in the engine, which of them in native code, and which wait unsent because one
goes alone. Pure: ids, fingerprints and seconds; sends nothing."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from ..protocol.events import Beat

SETTLED_S = 1.0
"""How much later than a Cancel the engine must be between two steps, so that it is known to have
taken note of it."""

MOST_CANCELLED = 256

Passed = list[tuple[int, bytes]]
"""Ids and frames of the commands that may be sent now, in this order."""


@dataclass(slots=True)
class _Entry:
    """`suspect`: it goes alone in any case; `alone`: it went so. `native`: it is being read, or has
    a slot. `cancelled`: when nobody waited any more."""

    fingerprint: bytes
    frame: bytes
    suspect: bool
    alone: bool = False
    native: bool = True
    cancelled: float | None = None


class Gate:
    """Requests pass in the order of their arrival. One that goes alone waits until nothing is
    inside, and what comes after it waits until it has left. Not thread-safe.

    A request that is cancelled stays inside until the engine has turned to something else: until
    then it may still be what kills it.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, _Entry] = {}
        self._inside: dict[int, _Entry] = {}
        self.wary = False
        """Whether all go alone that pass from now on."""
        self._forgotten: float | None = None
        """When the last one was cancelled of those inside that are no longer listed."""

    @property
    def alone(self) -> int | None:
        """The request that is inside alone."""
        return next((id for id, entry in self._inside.items() if entry.alone), None)

    def fingerprint(self, id: int) -> bytes:
        """Of a request that is inside."""
        return self._inside[id].fingerprint

    def arrive(
        self, id: int, fingerprint: bytes, frame: bytes, *, suspect: bool, first: bool = False
    ) -> Passed:
        """`first`: before all others, as it was inside already."""
        entry = _Entry(fingerprint, frame, suspect)
        self._waiting = {id: entry} | self._waiting if first else self._waiting | {id: entry}
        return self._pass()

    def admitted(self, id: int) -> None:
        """It was read, and waits for a slot."""
        if id in self._inside:
            self._inside[id].native = False

    def started(self, id: int) -> None:
        """It has a slot."""
        if id in self._inside:
            self._inside[id].native = True

    def left(self, id: int) -> Passed:
        """It has ended, or the engine never saw it."""
        self._waiting.pop(id, None)
        self._inside.pop(id, None)
        return self._pass()

    def cancelled(self, id: int, now: float) -> None:
        """The engine is being told that nobody waits for a request that is inside."""
        if id in self._inside:
            self._inside[id].cancelled = now
        gone = [id for id, entry in self._inside.items() if entry.cancelled is not None]
        for id in gone[:-MOST_CANCELLED]:
            del self._inside[id]
            self._forgotten = now

    def is_inside(self, id: int) -> bool:
        return id in self._inside

    def beat(self, now: float, beat: Beat) -> Passed:
        """The engine says what it is at: cancelled requests leave that it has taken note of,
        between two steps and while it reads nothing."""
        if beat.reading_s is not None:
            return []
        if beat.step_s is None:
            between_steps = now
        else:
            between_steps = -math.inf if beat.idle_s is None else now - beat.idle_s
        noted = between_steps - SETTLED_S
        for id, entry in list(self._inside.items()):
            if entry.cancelled is not None and entry.cancelled < noted:
                del self._inside[id]
        if self._forgotten is not None and self._forgotten < noted:
            self._forgotten = None
        return self._pass()

    def native(self, unwritten: Container[int]) -> list[bytes]:
        """Fingerprints of what is in native code, if it is not among the unwritten."""
        return [
            entry.fingerprint
            for id, entry in self._inside.items()
            if entry.native and id not in unwritten
        ]

    def clear(self) -> None:
        """Nothing is inside, and nothing waits."""
        self._waiting.clear()
        self._inside.clear()
        self._forgotten = None

    def _pass(self) -> Passed:
        passed: Passed = []
        while self._waiting and self.alone is None:
            id, entry = next(iter(self._waiting.items()))
            entry.alone = entry.suspect or self.wary
            if entry.alone and (self._inside or self._forgotten is not None):
                break
            del self._waiting[id]
            self._inside[id] = entry
            passed.append((id, entry.frame))
            entry.frame = b""
        return passed
