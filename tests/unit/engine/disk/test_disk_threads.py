"""The threads of the disk tier: what they do for the engine thread, and that no error ends them."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sheily_server.engine.disk.buffers import Buffers
from sheily_server.engine.disk.errands import Arrived, Copied, Finished, Load, Probed, Ready, Want
from sheily_server.engine.disk.reader import AHEAD, Reader
from sheily_server.engine.disk.writer import IN_FLIGHT, Writer, chain_of
from sheily_server.engine.kvcache.answer_ids import Note
from sheily_server.engine.scheduling.sequence import TokenSequence
from sheily_server.kvstore.blocks import Blocks
from sheily_server.kvstore.folder import Folder
from sheily_server.kvstore.keys import root_key
from sheily_server.kvstore.notes import Notes
from sheily_server.kvstore.owners import Owners, owner_of
from sheily_server.kvstore.room import Room

ROOT = root_key("a model", "")
TOKENS = list(range(600))
PATIENCE_S = 60


def size_of(n_tokens: int) -> int:
    return 10 + 3 * n_tokens


class Desk:
    """Both threads and the engine's end of them, with cells that say where they are from."""

    def __init__(self, path: Path, token_s: float = 1.0) -> None:
        self.folder = Folder(path)
        self.room = Room(self.folder, 1 << 30)
        self.blocks = Blocks(self.folder, self.room)
        self.owners = Owners(self.folder)
        self.notes = Notes(self.folder, "answer", 1000)
        self.got: queue.SimpleQueue[Ready] = queue.SimpleQueue()
        self.reader = Reader(self.blocks, size_of, lambda: token_s, self.got.put)
        self.writer = Writer(self.blocks, self.room, self.owners, self.notes, size_of, self.got.put)

    def next(self) -> Ready:
        return self.got.get(timeout=PATIENCE_S)

    def serve(self, most: int = 100) -> list[tuple[int, int]]:
        """Answers with cells until the writer wants nothing more; returns what it wanted."""
        wanted = []
        while not self.writer.is_idle:
            try:
                want = self.got.get(timeout=0.05)
            except queue.Empty:
                continue
            assert isinstance(want, Want)
            wanted.append((want.span.begin, want.span.end))
            if len(wanted) > most:
                self.writer.answer(None)
                continue
            cells = self.writer.buffers.take(size_of(want.span.end - want.span.begin))
            assert cells is not None
            cells[:] = want.span.begin // 256 + 1
            self.writer.answer(cells)
        return wanted

    def write(self, tokens: list[int], owner: str = "", note: Note | None = None) -> Any:
        self.writer.put(Finished(ROOT, tokens, owner, note))
        return self.serve()

    def load(self, tokens: list[int], begin: int = 0) -> tuple[Load, list[tuple[int, int, int]]]:
        """Has a prompt looked for and read; returns the parts, each with what is in its cells."""
        load = Load([TokenSequence(1, tokens, 5)], ROOT, tokens, begin)
        self.reader.put(load)
        probed = self.next()
        assert isinstance(probed, Probed)
        assert probed.load is load
        if load.first == len(load.chain):
            return load, []
        load.reading = True
        self.reader.put(load)
        parts = []
        while isinstance(arrived := self.next(), Arrived) and arrived.span is not None:
            assert arrived.cells is not None
            assert len(set(arrived.cells.tolist())) == 1
            parts.append((arrived.span.begin, arrived.span.end, int(arrived.cells[0])))
            self.reader.buffers.give_back(arrived.cells)
        return load, parts


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "cache")


def test_what_was_written_is_read(desk: Desk) -> None:
    assert desk.write(TOKENS) == [(0, 256), (256, 512), (512, 600)]
    assert desk.load(TOKENS)[1] == [(0, 256, 1), (256, 512, 2), (512, 600, 3)]
    assert desk.reader.n_tokens == 600


def test_what_is_there_is_not_written_again(desk: Desk) -> None:
    desk.write(TOKENS[:512])
    assert desk.write(TOKENS[:512]) == []
    assert desk.write(TOKENS[:520]) == []  # too few behind the last block
    assert desk.write(TOKENS) == [(512, 600)]
    assert desk.writer.n_written == 3


def test_what_the_cells_have_is_not_read(desk: Desk) -> None:
    desk.write(TOKENS)
    assert desk.load(TOKENS, begin=300)[1] == [(256, 512, 2), (512, 600, 3)]
    assert desk.load(TOKENS, begin=512)[1] == [(512, 600, 3)]
    assert desk.load(TOKENS, begin=590)[1] == []
    assert desk.load([7, *TOKENS])[1] == []


def test_a_prompt_that_parts_in_the_middle_gets_what_it_shares(desk: Desk) -> None:
    desk.write(TOKENS)
    load, parts = desk.load([*TOKENS[:550], *range(900, 1000)])
    assert parts[-1] == (512, 600, 3)
    assert load.until == 550
    load, parts = desk.load([*TOKENS[:400], 5])
    assert (parts, load.until) == ([(0, 256, 1), (256, 512, 2)], 400)


def test_a_missing_block_ends_what_is_found(desk: Desk) -> None:
    desk.write(TOKENS)
    second = chain_of(Finished(ROOT, TOKENS, ""))[1]
    desk.folder.remove(second.folder, second.name)
    assert desk.load(TOKENS)[1] == [(0, 256, 1)]


def test_cells_that_are_gone_end_what_is_written(desk: Desk) -> None:
    desk.writer.put(Finished(ROOT, TOKENS, ""))
    assert desk.serve(most=1) == [(0, 256), (256, 512)]
    assert desk.load(TOKENS)[1] == [(0, 256, 1)]


def test_cells_that_are_about_to_go_are_written_at_once(desk: Desk) -> None:
    finished = Finished(ROOT, TOKENS, "")
    span = chain_of(finished)[0]
    cells = desk.writer.buffers.take(size_of(256))
    assert cells is not None
    cells[:] = 9
    desk.writer.put(Copied(finished, span, cells))
    while not desk.writer.is_idle:
        assert desk.got.empty()
    assert desk.load(TOKENS)[1] == [(0, 256, 9)]


def test_a_forgotten_answer_is_not_written(desk: Desk) -> None:
    owner = owner_of("resp_1")
    finished = Finished(ROOT, TOKENS, owner)
    desk.writer.put(finished)
    want = desk.next()
    assert isinstance(want, Want)
    desk.writer.forget(owner)
    desk.writer.answer(None)
    assert desk.serve() == []
    assert desk.folder.names("owners") == []


def test_an_answer_that_ends_while_it_is_written_leaves_nothing(desk: Desk) -> None:
    owner = owner_of("resp_1")
    desk.writer.put(Finished(ROOT, TOKENS, owner, Note((b"a",), b"ids")))
    for begin in (0, 256):
        want = desk.next()
        assert isinstance(want, Want)
        assert want.span.begin == begin
        if begin:  # one file is there by now, and nobody has heard whose it is
            desk.writer.forget(owner)
        cells = desk.writer.buffers.take(size_of(256))
        assert cells is not None
        desk.writer.answer(cells)
    assert desk.serve() == []
    assert all(not desk.folder.names(name) for name in desk.folder.folders())
    assert desk.write(TOKENS, owner) == []
    assert desk.writer.is_idle


def test_an_answer_takes_along_what_was_copied_before_it_went(desk: Desk) -> None:
    owner = owner_of("resp_1")
    finished = Finished(ROOT, TOKENS, owner)
    for span in chain_of(finished)[:2]:
        cells = desk.writer.buffers.take(size_of(256))
        assert cells is not None
        desk.writer.put(Copied(finished, span, cells))
    desk.serve()
    assert desk.writer.n_written == 2
    assert desk.owners.erase(owner) == 2
    cells = desk.writer.buffers.take(size_of(256))
    assert cells is not None
    desk.writer.forget(owner)
    desk.writer.put(Copied(finished, chain_of(finished)[0], cells))
    desk.serve()
    assert desk.writer.n_written == 2
    assert None not in [desk.writer.buffers.take(1) for _ in range(IN_FLIGHT)]


def test_an_answer_s_note_goes_with_it(desk: Desk) -> None:
    owner = owner_of("resp_1")
    desk.write(TOKENS, owner, Note((b"a", b"b"), b"ids"))
    assert desk.notes.get(b"a", b"b") == b"ids"
    desk.owners.erase(owner)
    assert desk.notes.get(b"a", b"b") is None
    assert desk.load(TOKENS)[1] == []


def test_reading_that_is_slower_than_computing_is_left_out(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "cache", token_s=0.0)
    desk.write(TOKENS)
    assert desk.load(TOKENS)[1] != []  # nothing was measured yet
    desk.reader._seconds_a_byte.extend([1.0] * 9)
    tried = [bool(desk.load(TOKENS)[1]) for _ in range(16)]
    assert tried == [False] * 15 + [True]


def test_no_error_ends_the_threads(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write(TOKENS)
    with monkeypatch.context() as patch:
        patch.setattr(desk.blocks, "has", _broken)
        load = Load([TokenSequence(1, TOKENS, 5)], ROOT, TOKENS, 0)
        desk.reader.put(load)
        assert isinstance(desk.next(), Probed)
        assert load.first == len(load.chain)
        assert desk.write([3, *TOKENS]) == []
    with monkeypatch.context() as patch:
        patch.setattr(desk.blocks, "longest", _broken)
        load = Load([TokenSequence(1, TOKENS, 5)], ROOT, TOKENS, 0)
        desk.reader.put(load)
        desk.next()
        assert load.first == len(load.chain) == 2
    with monkeypatch.context() as patch:
        patch.setattr(desk.blocks, "read", _broken)
        for _ in range(AHEAD + 1):  # and takes no buffer along
            assert desk.load(TOKENS)[1] == []
    assert len(desk.load(TOKENS)[1]) == 3
    assert len(desk.write([4, *TOKENS])) == 3


def test_buffers_are_used_again(desk: Desk) -> None:
    buffers = desk.writer.buffers
    taken = [buffers.take(100) for _ in range(4)]
    assert buffers.take(100) is None
    one = taken[0]
    assert one is not None
    assert one.dtype == np.uint8
    buffers.give_back(one)
    assert buffers.take(50, leave=1) is None
    again = buffers.take(50)
    assert again is not None
    assert np.shares_memory(one, again)


def test_no_memory_is_no_buffer_this_time(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = Buffers(1, 100)

    def full(*given: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(np, "empty", full)
        assert buffers.take(100) is None
    assert buffers.take(100) is not None


def _broken(*given: object) -> bool:
    raise RuntimeError("broken")
