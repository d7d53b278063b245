"""The thread that reads: looks what the disk has of a prompt, and reads it, one file after another.
Decides whether reading is worth it, by what it measured."""

from __future__ import annotations

import logging
import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable

from ...kvstore.blocks import Blocks
from ...kvstore.keys import BLOCK, Span, whole_blocks
from .buffers import Buffers
from .errands import Arrived, Cells, Load, Probed, Ready

log = logging.getLogger(__name__)

LEAST = 16
"""Tokens that are worth reading a file for."""
AHEAD = 2
"""Files that may be in memory and not in the KV cache yet."""
NEGLIGIBLE_S = 0.05
"""By so much reading may seem slower than computing, and is done: small times are no measure."""
AGAIN = 16
"""Every so many times that reading seemed slower it is tried nevertheless, as disks change."""


class Reader:
    """Answers with `Probed` and `Arrived` through `ready`; that is called on the reader's
    thread."""

    def __init__(
        self,
        blocks: Blocks,
        size_of: Callable[[int], int],
        token_s: Callable[[], float],
        ready: Callable[[Ready], None],
    ) -> None:
        """`size_of` says how many bytes the cells of so many tokens have, `token_s` how many
        seconds computing a prompt's token takes."""
        self._blocks = blocks
        self._size_of = size_of
        self._token_s = token_s
        self._ready = ready
        self.buffers = Buffers(AHEAD, size_of(BLOCK))
        self._loads: queue.SimpleQueue[Load] = queue.SimpleQueue()
        self._seconds_a_byte: deque[float] = deque(maxlen=9)
        self._n_slow = 0
        self.n_tokens = 0
        """Tokens whose cells were read."""
        threading.Thread(target=self._run, name="cache-reader", daemon=True).start()

    def put(self, load: Load) -> None:
        """Looks what there is for a load; where that is known already, reads it."""
        self._loads.put(load)

    def _run(self) -> None:
        while True:
            load = self._loads.get()
            try:
                if load.reading:
                    self._read(load)
                else:
                    self._probe(load)
            except Exception:  # a request must not wait for a thread that is gone
                log.exception("the prefix cache on disk cannot be read")
                load.first = len(load.chain)
                self._ready(Arrived(load) if load.reading else Probed(load))

    def _probe(self, load: Load) -> None:
        if load.over:
            return
        parent, begin = load.root, 0
        for span in whole_blocks(load.root, load.tokens):
            if span.end > load.begin and not self._blocks.has(span):
                break
            load.chain.append(span)
            parent, begin = span.key, span.end
        if load.begin < len(load.tokens):
            last = self._blocks.longest(parent, load.tokens, begin)
            if last is not None:
                load.chain.append(last[0])
                begin = last[1]
        load.until = begin
        load.first = next(
            (i for i, span in enumerate(load.chain) if min(span.end, begin) >= load.begin + LEAST),
            len(load.chain),
        )
        if load.first < len(load.chain) and not self._is_worth(load):
            load.first = len(load.chain)
        self._ready(Probed(load))

    def _is_worth(self, load: Load) -> bool:
        """Whether reading takes less time than computing the tokens."""
        if not self._seconds_a_byte:
            return True
        spans = load.chain[load.first :]
        n_bytes = sum(self._size_of(span.end - span.begin) for span in spans)
        reading_s = n_bytes * statistics.median(self._seconds_a_byte)
        computing_s = (load.until - load.begin) * self._token_s()
        if reading_s <= computing_s + NEGLIGIBLE_S:
            return True
        self._n_slow += 1
        return self._n_slow % AGAIN == 0

    def _read(self, load: Load) -> None:
        for span in load.chain[load.first :]:
            if not self._read_one(load, span):
                break
        self._ready(Arrived(load))
        self._blocks.touch(load.chain)

    def _read_one(self, load: Load, span: Span) -> bool:
        n_bytes = self._size_of(span.end - span.begin)
        cells: Cells | None = None
        while not load.over and cells is None:
            cells = self.buffers.take(n_bytes, timeout=0.25)
        if cells is None:
            return False
        began = time.monotonic()
        found = False
        try:
            found = self._blocks.read(span, load.root, load.tokens[: load.until], cells.data)
        finally:
            if not found:
                self.buffers.give_back(cells)
        if not found:
            return False
        self._seconds_a_byte.append((time.monotonic() - began) / n_bytes)
        self.n_tokens += span.end - span.begin
        self._ready(Arrived(load, span, cells))
        return True
