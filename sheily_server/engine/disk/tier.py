"""The engine thread's end of the disk tier: between two steps it copies cells in and out, never for
longer than the streams can spare. Knows sequences and cells, and no files."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Sequence

from sheily_native import NativeError

from ...kvstore.blocks import LEAST_TAIL, Blocks
from ...kvstore.keys import Span, root_key
from ...kvstore.notes import Notes
from ...kvstore.owners import Owners
from ...kvstore.room import Room
from ...protocol.events import Disk
from ..kvcache.answer_ids import Note
from ..kvcache.prefix_tree import common_prefix
from ..runner import Runner
from ..scheduling.scheduler import Scheduler
from ..scheduling.sequence import TokenSequence
from .errands import Arrived, Cells, Copied, Finished, Load, Probed, Ready, Want
from .reader import LEAST, Reader
from .writer import Writer, chain_of

log = logging.getLogger(__name__)

COPY_SHARE = 0.02
"""Part of the time that copies for the disk may take while answers stream."""
LEAST_WAIT_S = 2.0
"""A file that takes less time than this is never given up."""
LAST_S = 8.0
"""What is not written then stays unwritten when the engine ends."""


class Tier:
    """For the engine thread, except for `root` and `state`."""

    def __init__(
        self,
        *,
        blocks: Blocks,
        room: Room,
        owners: Owners,
        notes: Notes,
        identity: str,
        runner: Runner,
        scheduler: Scheduler,
        wake: Callable[[], None],
    ) -> None:
        """`identity` says what cells depend on beside their tokens. `wake` is called on any thread
        when there is something to do."""
        self._identity = identity
        self._runner = runner
        self._scheduler = scheduler
        self._wake = wake
        self._ready: queue.SimpleQueue[Ready] = queue.SimpleQueue()
        self._put_off: list[Want] = []
        self._loads: dict[int, Load] = {}
        self._next_copy = 0.0
        self._works = True
        self.room = room
        self.blocks = blocks
        self.reader = Reader(blocks, runner.saved_size, self._token_s, self._take)
        self.writer = Writer(blocks, room, owners, notes, runner.saved_size, self._take)
        scheduler.on_evict = self._evicting

    def root(self, scope: str) -> bytes:
        """Returns the key under which the conversations of a scope are."""
        return root_key(self._identity, scope)

    def state(self) -> Disk:
        """Returns what the tier holds and did. For any thread."""
        return Disk(
            used_bytes=self.room.used,
            files=self.room.n_files,
            tokens_read=self.reader.n_tokens,
            files_written=self.writer.n_written,
            files_evicted=self.room.n_evicted,
            dropped=self.writer.n_dropped,
            errors=self.blocks.n_errors,
        )

    def begin(self, sequences: Sequence[TokenSequence], root: bytes) -> None:
        """Looks what there is of a prompt, for sequences that are about to be queued: they wait for
        it, if the KV cache lacks enough of it."""
        first = sequences[0]
        tokens = first.prompt[: first.n_shared]
        begin = self._scheduler.match(first)
        if not self._works or len(tokens) - begin < LEAST:
            return
        load = Load(sequences, root, tokens, begin)
        for each in sequences:
            each.loading = True
            self._loads[each.id] = load
        load.due = time.monotonic() + LEAST_WAIT_S
        self.reader.put(load)

    def started(self, sequence: TokenSequence) -> None:
        """Has the cells of a sequence read that got its slot."""
        load = self._loads.get(sequence.id)
        if load is not None:
            self._read(load)

    def ended(self, sequence: TokenSequence) -> None:
        """Forgets a sequence that waits no more."""
        load = self._loads.pop(sequence.id, None)
        if load is not None:
            load.sequences = [each for each in load.sequences if each is not sequence]
            if not load.sequences:
                load.over = True

    def finished(
        self, tokens: list[int], root: bytes, owner: str, note: Note | None = None
    ) -> None:
        """Has written what a sequence computed, as far as the disk does not have it, and a note."""
        if self._works and len(tokens) >= LEAST_TAIL:
            self.writer.put(Finished(root, tokens, owner, note))

    def forget(self, owner: str) -> None:
        """Has nothing more written of what is of this owner alone, and erases what was."""
        self.writer.forget(owner)

    def work(self, streaming: bool) -> None:
        """Takes what the threads have. While answers stream, at most one copy is made, and only if
        copies have taken little of the time."""
        self._give_up()
        wants, self._put_off = self._put_off, []
        for want in wants:
            self._handle(want, streaming)
        while not self._ready.empty():
            self._handle(self._ready.get_nowait(), streaming)

    @property
    def has_put_off(self) -> bool:
        """Whether a copy is to be made that was put off while answers streamed."""
        return bool(self._put_off)

    def flush(self) -> None:
        """Writes what is left, before the process ends."""
        self.writer.hurry()
        until = time.monotonic() + LAST_S
        while not self.writer.is_idle and time.monotonic() < until:
            self.work(streaming=False)
            time.sleep(0.001)

    def forget_all(self) -> None:
        """Ends all loads, after a step that failed."""
        for load in set(self._loads.values()):
            self._end(load)

    def _token_s(self) -> float:
        return self._scheduler.prompt_token_s

    def _take(self, ready: Ready) -> None:
        """On the threads of the disk."""
        self._ready.put(ready)
        self._wake()

    def _handle(self, ready: Ready, streaming: bool) -> None:
        if isinstance(ready, Probed):
            self._probed(ready.load)
        elif isinstance(ready, Arrived):
            self._arrived(ready)
        elif streaming and time.monotonic() < self._next_copy:
            self._put_off.append(ready)
        else:
            self._copy_for(ready)

    def _probed(self, load: Load) -> None:
        load.probed = True
        if load.first >= len(load.chain):
            self._end(load)
        elif load.leader is not None:
            self._read(load)

    def _read(self, load: Load) -> None:
        if load.probed and not load.reading and not load.over:
            load.reading = True
            load.due = self._due(load.chain[load.first], load.begin)
            self.reader.put(load)

    def _due(self, span: Span, begin: int) -> float:
        """Returns until when a file is waited for: as long as computing its tokens takes."""
        n = span.end - max(span.begin, begin)
        return time.monotonic() + max(n * self._scheduler.prompt_token_s, LEAST_WAIT_S)

    def _give_up(self) -> None:
        if not self._loads:
            return
        now = time.monotonic()
        for load in set(self._loads.values()):
            if load.leader is not None and now > load.due:
                self._end(load)

    def _arrived(self, arrived: Arrived) -> None:
        load, span, cells = arrived.load, arrived.span, arrived.cells
        if span is None or cells is None:
            self._end(load)
            return
        try:
            leader = load.leader
            if not load.over and leader is not None:
                self._place(load, leader, span, cells)
        finally:
            self.reader.buffers.give_back(cells)

    def _place(self, load: Load, leader: TokenSequence, span: Span, cells: Cells) -> None:
        operations = self._scheduler.make_room(leader, span.end - span.begin)
        if operations is None:
            self._end(load)
            return
        self._runner.prepare(operations)
        if leader.slot is None or leader.n_computed < span.begin:  # what was there went meanwhile
            self._end(load)
            return
        end = min(span.end, load.until)
        if leader.n_computed < end:
            try:
                self._runner.load(leader.slot, span.begin, span.end, cells, keep=end)
            except NativeError as error:
                log.warning("cells from disk cannot be used: %s", error)
                self._end(load)
                return
            self._scheduler.loaded(leader, end)
        position = load.chain.index(span) + 1
        if position < len(load.chain):
            load.due = self._due(load.chain[position], load.begin)

    def _end(self, load: Load) -> None:
        """Lets the sequences go on with what they have."""
        load.over = True
        for each in load.sequences:
            each.loading = False
            self._loads.pop(each.id, None)

    def _copy_for(self, want: Want) -> None:
        finished, span = want.finished, want.span
        cells = self.writer.buffers.take(self._runner.saved_size(span.end - span.begin))
        if cells is None or not self.writer.is_wanted(finished):
            if cells is not None:
                self.writer.buffers.give_back(cells)
            self.writer.answer(None)
            return
        self._runner.prepare(self._scheduler.take_operations())
        holder = self._scheduler.holder(finished.root, finished.tokens[: span.end])
        if holder is None or not self._copy(holder, span, cells):
            self.writer.buffers.give_back(cells)
            self.writer.answer(None)
            return
        self.writer.answer(cells)

    def _copy(self, holder: int, span: Span, cells: Cells) -> bool:
        began = time.monotonic()
        try:
            self._runner.save(holder, span.begin, span.end, cells)
        except NativeError as error:
            if self._works:
                log.warning("nothing is written to the cache on disk: %s", error)
            self._works = False
            return False
        now = time.monotonic()
        self._next_copy = now + (now - began) / COPY_SHARE
        return True

    def _evicting(self, root: bytes, sequence: int, path: Sequence[int], begin: int) -> None:
        """Copies cells from `begin` on that are about to go, if they are to be written. Leaves the
        writer a buffer for what it asks for, as it writes nothing else before it has that."""
        copied: set[Span] = set()
        for finished in self.writer.waiting:
            if finished.root != root or not self.writer.is_wanted(finished):
                continue
            first, n = max(begin, finished.written), common_prefix(finished.tokens, path)
            for span in chain_of(finished) if n > first else ():
                if span.end <= first or span.end > n or span in copied:
                    continue
                n_bytes = self._runner.saved_size(span.end - span.begin)
                cells = self.writer.buffers.take(n_bytes, leave=1)
                if cells is None:
                    self.writer.n_dropped += 1
                    return
                copied.add(span)
                self._runner.prepare(self._scheduler.take_operations())
                if self._copy(sequence, span, cells):
                    self.writer.put(Copied(finished, span, cells))
                else:
                    self.writer.buffers.give_back(cells)
                    return
