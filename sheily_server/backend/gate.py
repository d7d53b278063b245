"""Tracks which requests are in the engine, which of them are in native code, and which wait unsent
because one runs alone. Pure: knows ids, fingerprints and seconds, and sends nothing."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from ..protocol.events import Beat

SETTLED_S = 1.0
"""How long after a Cancel the engine must be between two steps to have surely processed it."""

MOST_CANCELLED = 256

Passed = list[tuple[int, bytes]]
"""Ids and frames of the commands that may be sent now, in order."""


@dataclass(slots=True)
class _Entry:
    """A request at the gate. `suspect`: it must run alone. `alone`: it was let in alone. `native`:
    it is being read or has a slot. `cancelled`: when it was cancelled."""

    fingerprint: bytes
    frame: bytes
    suspect: bool
    alone: bool = False
    native: bool = True
    cancelled: float | None = None


class Gate:
    """Lets requests pass in order of arrival. A request that runs alone waits until nothing is
    inside, and later ones wait until it has left. Not thread-safe.

    A cancelled request stays inside until the engine has moved on, since until then it may still be
    what kills the engine.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, _Entry] = {}
        self._inside: dict[int, _Entry] = {}
        self.wary = False
        """Whether every request that passes from now on runs alone."""
        self._forgotten: float | None = None
        """When the last cancelled request was dropped from the list while still inside."""

    @property
    def alone(self) -> int | None:
        """The request that is inside alone."""
        return next((id for id, entry in self._inside.items() if entry.alone), None)

    def fingerprint(self, id: int) -> bytes:
        """Returns the fingerprint of a request that is inside."""
        return self._inside[id].fingerprint

    def arrive(
        self, id: int, fingerprint: bytes, frame: bytes, *, suspect: bool, first: bool = False
    ) -> Passed:
        """Adds a request. `first` puts it ahead of all others, since it was inside already."""
        entry = _Entry(fingerprint, frame, suspect)
        self._waiting = {id: entry} | self._waiting if first else self._waiting | {id: entry}
        return self._pass()

    def admitted(self, id: int) -> None:
        """Records that the request was read and waits for a slot."""
        if id in self._inside:
            self._inside[id].native = False

    def started(self, id: int) -> None:
        """Records that the request has a slot."""
        if id in self._inside:
            self._inside[id].native = True

    def left(self, id: int) -> Passed:
        """Records that the request has ended, or that the engine never saw it."""
        self._waiting.pop(id, None)
        self._inside.pop(id, None)
        return self._pass()

    def cancelled(self, id: int, now: float) -> None:
        """Records that the engine is being told to cancel a request that is inside."""
        if id in self._inside:
            self._inside[id].cancelled = now
        gone = [id for id, entry in self._inside.items() if entry.cancelled is not None]
        for id in gone[:-MOST_CANCELLED]:
            del self._inside[id]
            self._forgotten = now

    def is_inside(self, id: int) -> bool:
        return id in self._inside

    def beat(self, now: float, beat: Beat) -> Passed:
        """Removes cancelled requests once a beat shows that the engine has processed their Cancel:
        it is between two steps and reads nothing."""
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
        """Returns fingerprints of requests in native code, except those still unwritten."""
        return [
            entry.fingerprint
            for id, entry in self._inside.items()
            if entry.native and id not in unwritten
        ]

    def clear(self) -> None:
        """Removes all requests, inside and waiting."""
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
