"""Files of blocks: found by tokens alone, and doubted."""

from __future__ import annotations

import errno
import logging
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheily_server.kvstore import blocks as blocks_module
from sheily_server.kvstore.blocks import LEAST_TAIL, Blocks
from sheily_server.kvstore.folder import Folder
from sheily_server.kvstore.keys import BLOCK, Span, root_key, tail, unpacked, whole_blocks
from sheily_server.kvstore.keys import packed as packed_ids
from sheily_server.kvstore.room import Room

ROOT = root_key("a model", "")
TOKENS = [random.Random(1).randrange(128_256) for _ in range(3 * BLOCK + 100)]
N_BYTES = 1000


class Store:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = Folder(path)
        self.room = Room(self.folder, 1 << 30)
        self.blocks = Blocks(self.folder, self.room)

    def write(self, span: Span, tokens: list[int] = TOKENS, root: bytes = ROOT) -> bytes:
        cells = random.Random(span.begin).randbytes(N_BYTES)
        assert self.blocks.write(span, root, tokens, memoryview(cells))
        return cells

    def read(self, span: Span, tokens: list[int] = TOKENS, root: bytes = ROOT) -> bytes | None:
        cells = bytearray(N_BYTES)
        found = self.blocks.read(span, root, tokens, memoryview(cells))
        return bytes(cells) if found else None

    @property
    def files(self) -> list[Path]:
        return sorted(self.path.glob("??/*.kv"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def chain(tokens: list[int] = TOKENS, root: bytes = ROOT) -> list[Span]:
    return list(whole_blocks(root, tokens))


def tail_of(n: int, tokens: list[int] = TOKENS) -> Span:
    last = chain(tokens)[-1]
    return tail(last.key, tokens, last.end, last.end + n)


def test_keys_depend_on_all_that_precedes() -> None:
    spans = chain()
    assert [span.begin for span in spans] == [0, BLOCK, 2 * BLOCK]
    assert [span.parent for span in spans] == [ROOT, *(span.key for span in spans[:-1])]
    other = chain([TOKENS[0] + 1, *TOKENS[1:]])
    assert not {span.key for span in spans} & {span.key for span in other}
    elsewhere = chain(root=root_key("another model", ""))
    assert not {span.name for span in spans} & {span.name for span in elsewhere}
    assert root_key("m", "a") != root_key("m", "b")
    assert root_key("m a", "") != root_key("m", "a")


@given(st.lists(st.integers(0, 2**31 - 1), max_size=20))
def test_ids_come_back_from_bytes(ids: list[int]) -> None:
    assert unpacked(packed_ids(ids)) == ids
    assert packed_ids([1]) == b"\1\0\0\0"


def test_a_block_comes_back_byte_for_byte(store: Store) -> None:
    for span in (*chain(), tail_of(100)):
        assert not store.blocks.has(span)
        cells = store.write(span)
        assert store.blocks.has(span)
        assert store.read(span) == cells
    assert {path.stat().st_mode & 0o777 for path in store.files} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in store.files} == {0o700}
    assert store.room.used == sum(path.stat().st_size for path in store.files)
    assert store.blocks.n_errors == 0


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_bit_that_is_wrong_is_a_miss(
    tmp_path_factory: pytest.TempPathFactory, at: float, bit: int
) -> None:
    store = Store(tmp_path_factory.mktemp("bits") / "cache")
    [span] = chain(TOKENS[:BLOCK])
    store.write(span)
    [path] = store.files
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    path.write_bytes(data)
    assert store.read(span) is None
    assert store.files == []
    assert store.blocks.n_errors == 1


@pytest.mark.parametrize("left", [0, 1, 50, 107, 108, 500, -1])
def test_a_torn_file_is_a_miss(store: Store, left: int) -> None:
    [span] = chain(TOKENS[:BLOCK])
    store.write(span)
    [path] = store.files
    path.write_bytes(path.read_bytes()[:left])
    assert store.read(span) is None
    assert store.files == []


def test_a_file_of_others_under_the_same_name_is_a_miss(store: Store) -> None:
    """As if two sequences had the same hash: the tokens themselves are compared."""
    first, second = chain()[:2]
    store.write(first)
    store.write(second)
    (store.path / first.folder / first.name).rename(store.path / second.folder / second.name)
    assert store.read(second) is None
    span = chain()[0]
    other = [TOKENS[0] + 1, *TOKENS[1:]]
    store.write(span, other)
    assert store.read(span) is None


def test_a_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    [span] = chain(TOKENS[:BLOCK])
    store.write(span)
    [path] = store.files
    aside = tmp_path / "aside"
    path.rename(aside)
    path.symlink_to(aside)
    assert store.read(span) is None
    assert aside.exists()


def test_the_longest_tail_is_found_also_in_part(store: Store) -> None:
    last = chain()[-1]
    assert store.blocks.longest(last.key, TOKENS, last.end) is None
    store.write(tail_of(40))
    assert store.blocks.longest(last.key, TOKENS, last.end) == (tail_of(40), last.end + 40)
    store.write(tail_of(90))
    assert store.blocks.longest(last.key, TOKENS, last.end) == (tail_of(90), last.end + 90)
    # A prompt that ends, or goes on otherwise, in the middle of what is there.
    prompt = TOKENS[: last.end + 70]
    assert store.blocks.longest(last.key, prompt, last.end) == (tail_of(90), last.end + 70)
    other = [*TOKENS[: last.end + 50], 5, 6, 7, 8]
    assert store.blocks.longest(last.key, other, last.end) == (tail_of(90), last.end + 50)
    assert store.blocks.longest(last.key, TOKENS[: last.end + LEAST_TAIL - 1], last.end) is None
    assert store.read(tail_of(90), prompt) is not None
    assert store.read(tail_of(90), other[: last.end + 50]) is not None


@pytest.mark.parametrize("number", ["000", "257", "-05", "1e9", "9999999999", "", "٣٣٣"])
def test_names_that_no_block_has_are_not_looked_into(store: Store, number: str) -> None:
    store.write(tail(ROOT, TOKENS, 0, 40))
    [path] = store.files
    path.rename(path.with_name(path.name.replace("-040-", f"-{number}-")))
    assert store.blocks.longest(ROOT, TOKENS, 0) is None
    assert store.blocks.n_errors == 0


def test_a_part_of_a_whole_block_is_found(store: Store) -> None:
    first = chain()[0]
    cells = store.write(first)
    found = store.blocks.longest(ROOT, TOKENS[:200], 0)
    assert found is not None
    assert (found[0].name, found[1]) == (first.name, 200)
    assert store.read(first, TOKENS[:200]) == cells


def test_a_longer_file_takes_the_place_of_a_shorter_one(store: Store) -> None:
    last = chain()[-1]
    store.write(tail_of(40))
    other = [*TOKENS[: last.end + 30], *range(60)]
    store.write(tail(last.key, other, last.end, last.end + 90), other)
    assert len(store.files) == 2
    store.write(tail_of(70))
    assert store.read(tail_of(70)) is not None
    assert not store.blocks.has(tail_of(40))
    assert len(store.files) == 2
    longer = [*TOKENS, *range(BLOCK)]
    store.write(chain(longer)[3], longer)
    assert not store.blocks.has(tail_of(70))


def test_a_crowded_folder_is_not_looked_through(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = chain()[-1]
    store.write(tail_of(40))
    other = [*TOKENS[: last.end + 20], *range(80)]
    store.write(tail(last.key, other, last.end, last.end + 100), other)
    monkeypatch.setattr(blocks_module, "MOST_NAMES", 0)
    assert store.blocks.longest(last.key, TOKENS, last.end) == (tail_of(40), last.end + 40)


def test_a_folder_that_was_removed_is_made_again(store: Store) -> None:
    [span] = chain(TOKENS[:BLOCK])
    store.write(span)
    for path in (*store.files, store.path / "CACHEDIR.TAG"):
        path.unlink()
    for path in store.path.iterdir():
        path.rmdir()
    store.path.rmdir()
    assert store.read(span) is None
    store.write(span)
    assert store.read(span) is not None


def test_a_full_disk_is_told_once_and_leaves_nothing_half_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    [span] = chain(TOKENS[:BLOCK])
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("sheily_server.kvstore.folder._write_all", full)
        for _ in range(3):
            assert not store.blocks.write(span, ROOT, TOKENS, memoryview(bytes(N_BYTES)))
    assert [record.getMessage() for record in caplog.records] == [
        "a block of the prefix cache cannot be written: No space left on device"
    ]
    assert store.blocks.n_errors == 3
    assert list((store.path / span.folder).iterdir()) == []
    store.write(span)
