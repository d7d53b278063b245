"""The thread that writes: goes through what was computed, asks the engine thread for the cells of
what is not there yet, and writes them, one file after another."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable

from ...kvstore.blocks import LEAST_TAIL, Blocks
from ...kvstore.keys import Span, tail, whole_blocks
from ...kvstore.notes import Notes
from ...kvstore.owners import Owners
from ...kvstore.room import Room
from .buffers import Buffers
from .errands import Cells, Copied, Finished, Ready, Want

log = logging.getLogger(__name__)

IN_FLIGHT = 4
"""Files whose cells are in memory and not written yet."""
MOST_WAITING = 256
"""Sequences that wait to be written; more are not."""
NICENESS = 19


class Writer:
    """Asks through `ready`, with `Want`, on its own thread; `answer` has the cells."""

    def __init__(
        self,
        blocks: Blocks,
        room: Room,
        owners: Owners,
        notes: Notes,
        size_of: Callable[[int], int],
        ready: Callable[[Ready], None],
    ) -> None:
        self._blocks = blocks
        self._room = room
        self._owners = owners
        self._notes = notes
        self._ready = ready
        self.buffers = Buffers(IN_FLIGHT, size_of(256))
        self._errands: queue.SimpleQueue[Finished | Copied | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Cells | None] = queue.SimpleQueue()
        self._waiting: list[Finished] = []
        self._lock = threading.Lock()
        self.n_written = 0
        """Files written."""
        self.n_dropped = 0
        """Sequences and cells that were not written, as there were too many."""
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> list[Finished]:
        """What is not written to its end yet."""
        with self._lock:
            return list(self._waiting)

    @property
    def is_idle(self) -> bool:
        return self._idle.is_set() and not self._waiting

    def put(self, errand: Finished | Copied) -> None:
        with self._lock:
            if isinstance(errand, Finished):
                if len(self._waiting) >= MOST_WAITING:
                    self.n_dropped += 1
                    return
                self._waiting.append(errand)
            self._idle.clear()
        self._errands.put(errand)

    def answer(self, cells: Cells | None) -> None:
        """Answers the last Want."""
        self._answers.put(cells)

    def forget(self, owner: str) -> None:
        """Writes nothing more of what is of this owner alone."""
        with self._lock:
            for each in self._waiting:
                if each.owner == owner:
                    each.written = len(each.tokens)

    def hurry(self) -> None:
        """Gives the thread as much of the processor as others have, before the process ends."""
        self._set_niceness(0)

    def _run(self) -> None:
        self._set_niceness(NICENESS)
        while True:
            try:
                self._look()
                errand = self._next()
                if isinstance(errand, Finished):
                    try:
                        self._write_all(errand)
                    finally:
                        with self._lock:
                            self._waiting.remove(errand)
                elif isinstance(errand, Copied):
                    self._write(errand.finished, errand.span, errand.cells)
            except Exception:
                log.exception("the prefix cache on disk cannot be written")

    def _next(self) -> Finished | Copied | None:
        """Waits for something to do, now and then for nothing, so that the folder is looked at."""
        with contextlib.suppress(queue.Empty):
            return self._errands.get_nowait()
        with self._lock:
            if self._errands.empty():
                self._idle.set()
        with contextlib.suppress(queue.Empty):
            return self._errands.get(timeout=60.0)
        return None

    def _look(self) -> None:
        if self._room.is_due:
            try:
                began = time.monotonic()
                self._room.look()
                self._owners.prune()
                log.debug("looked through the cache in %.2f s", time.monotonic() - began)
            except OSError as error:
                log.debug("the folder of the cache cannot be looked through: %s", error)

    def _write_all(self, finished: Finished) -> None:
        chain = chain_of(finished)
        there = 0
        for span in chain:
            if not self._blocks.has(span) and not self._write_one(finished, span):
                break
            there += 1
            finished.written = max(finished.written, span.end)
        self._blocks.touch(chain[:there])
        files = [(span.folder, span.name) for span in chain[:there]]
        if there and finished.note is not None:
            files.append(self._notes.put(*finished.note.key, data=finished.note.ids))
        if files:
            self._owners.add(finished.owner, files)

    def _write_one(self, finished: Finished, span: Span) -> bool:
        if finished.written >= span.end:  # it was forgotten meanwhile
            return False
        self._ready(Want(finished, span))
        cells = self._answers.get()
        return cells is not None and self._write(finished, span, cells)

    def _write(self, finished: Finished, span: Span, cells: Cells) -> bool:
        try:
            written = self._blocks.write(span, finished.root, finished.tokens, cells.data)
        finally:
            self.buffers.give_back(cells)
        self.n_written += written
        return written

    def _set_niceness(self, value: int) -> None:
        """On Linux each thread has a niceness of its own; elsewhere it stays as it is."""
        if os.uname().sysname == "Linux" and self._thread.native_id is not None:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._thread.native_id, value)


def chain_of(finished: Finished) -> list[Span]:
    """Returns the files that the tokens make: whole blocks, and a tail that is worth it."""
    chain = list(whole_blocks(finished.root, finished.tokens))
    begin, parent = (chain[-1].end, chain[-1].key) if chain else (0, finished.root)
    if len(finished.tokens) - begin >= LEAST_TAIL:
        chain.append(tail(parent, finished.tokens, begin, len(finished.tokens)))
    return chain
