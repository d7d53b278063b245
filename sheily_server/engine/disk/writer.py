"""The thread that writes: goes through what was computed, asks the engine thread for the cells of
what is not there yet, and writes them, one file after another."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from ...kvstore.blocks import LEAST_TAIL, Blocks
from ...kvstore.keys import BLOCK, Span, tail, whole_blocks
from ...kvstore.notes import Notes
from ...kvstore.owners import Owners
from ...kvstore.room import Room
from .buffers import Buffers
from .errands import Cells, Copied, Finished, Forgotten, Ready, Want

log = logging.getLogger(__name__)

IN_FLIGHT = 4
"""Files whose cells are in memory and not written yet."""
MOST_WAITING = 256
"""Sequences that wait to be written; more are not."""
MOST_FORGOTTEN = 1024
"""Owners that have ended and are remembered, for what is to be written of theirs yet."""
NICENESS = 19

_Errand = Finished | Copied | Forgotten


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
        self.buffers = Buffers(IN_FLIGHT, size_of(BLOCK))
        self._errands: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Cells | None] = queue.SimpleQueue()
        self._waiting: list[Finished] = []
        self._forgotten: deque[str] = deque(maxlen=MOST_FORGOTTEN)
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
                if errand.owner in self._forgotten:
                    return
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
        """Writes nothing more of what is of this owner alone, and erases what was written."""
        with self._lock:
            self._forgotten.append(owner)
            self._idle.clear()
        self._errands.put(Forgotten(owner))

    def is_wanted(self, finished: Finished) -> bool:
        """Whether its owner has not ended."""
        with self._lock:
            return finished.owner not in self._forgotten

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
                    self._write_copied(errand)
                elif isinstance(errand, Forgotten):
                    self._owners.erase(errand.owner)
            except Exception:
                log.exception("the prefix cache on disk cannot be written")

    def _next(self) -> _Errand | None:
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
        there: list[Span] = []
        for span in chain_of(finished):
            if not self._blocks.has(span) and not self._write_one(finished, span):
                break
            there.append(span)
            finished.files.append((span.folder, span.name))
            finished.written = span.end
        self._blocks.touch(there)
        if there and finished.note is not None and self.is_wanted(finished):
            finished.files.append(self._notes.put(*finished.note.key, data=finished.note.ids))
        self._own(finished)

    def _write_copied(self, copied: Copied) -> None:
        finished, span = copied.finished, copied.span
        if not self.is_wanted(finished):
            self.buffers.give_back(copied.cells)
            return
        if not self._write(finished, span, copied.cells):
            return
        finished.files.append((span.folder, span.name))
        self._own(finished)

    def _own(self, finished: Finished) -> None:
        """Notes which files are of the owner; of one that has ended too, as it is erased then."""
        if finished.files:
            self._owners.add(finished.owner, finished.files)

    def _write_one(self, finished: Finished, span: Span) -> bool:
        if not self.is_wanted(finished):
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
