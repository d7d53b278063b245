"""Keys of blocks: what a block is called depends on all tokens up to its end, and on all else that
its cells depend on. Pure."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BLOCK = 256
"""Tokens of a whole block."""
FORMAT = 1
"""Version of the files; a part of every root, so that other versions are not found."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a sequence that is a file: its tokens at positions `begin` to `end` - 1, behind the
    block `parent`. `mark` tells it from others behind the same block. `key` is that of a whole
    block; a tail, which is shorter and has nothing behind it, has none."""

    begin: int
    end: int
    parent: bytes
    mark: bytes
    key: bytes = b""

    @property
    def folder(self) -> str:
        return folder_of(self.parent)

    @property
    def name(self) -> str:
        """The file's name in its folder."""
        return f"{prefix_of(self.parent)}{self.end - self.begin:03d}-{self.mark.hex()}.kv"


def folder_of(parent: bytes) -> str:
    """Returns the folder in which all is that follows a block."""
    return parent.hex()[:2]


_BEHIND = re.compile(r"([0-9]{3})-([0-9a-f]{16})\.kv")


def prefix_of(parent: bytes) -> str:
    """Returns how the names of all files behind a block begin."""
    return f"{parent.hex()}-"


def parsed(name: str, parent: bytes) -> tuple[int, bytes] | None:
    """Returns the number of tokens and the mark in the name of a file behind a block; None for
    other names."""
    prefix = prefix_of(parent)
    found = _BEHIND.fullmatch(name[len(prefix) :]) if name.startswith(prefix) else None
    if found is None or not 1 <= int(found[1]) <= BLOCK:
        return None
    return int(found[1]), bytes.fromhex(found[2])


def root_key(identity: str, scope: str) -> bytes:
    """Returns the key that stands for no tokens at all. `identity` says what cells depend on beside
    the tokens, `scope` for whom they are."""
    words = f"{FORMAT}\0{identity}\0{scope}"
    return hashlib.blake2b(words.encode(), digest_size=32, person=b"sheily root").digest()


def packed(tokens: Sequence[int]) -> bytes:
    """Returns ids as little-endian 32-bit integers."""
    found = array("i", tokens)
    if found.itemsize != 4:
        raise OverflowError("this machine's integers have no 32 bits")
    if _BIG_ENDIAN:
        found.byteswap()
    return found.tobytes()


def unpacked(data: bytes) -> list[int]:
    """Returns the ids that `packed` was given."""
    found = array("i", data)
    if _BIG_ENDIAN:
        found.byteswap()
    return found.tolist()


_BIG_ENDIAN = array("H", [1]).tobytes() == b"\0\1"


def block_key(parent: bytes, tokens: Sequence[int]) -> bytes:
    return hashlib.blake2b(parent + packed(tokens), digest_size=32, person=b"sheily block").digest()


def mark_of(tokens: Sequence[int]) -> bytes:
    return hashlib.blake2b(packed(tokens), digest_size=8, person=b"sheily mark").digest()


def whole_blocks(root: bytes, tokens: Sequence[int]) -> Iterator[Span]:
    """Yields the whole blocks of a sequence, from the first."""
    parent = root
    for begin in range(0, len(tokens) - BLOCK + 1, BLOCK):
        part = tokens[begin : begin + BLOCK]
        key = block_key(parent, part)
        yield Span(begin, begin + BLOCK, parent, mark_of(part), key)
        parent = key


def tail(parent: bytes, tokens: Sequence[int], begin: int, end: int) -> Span:
    """Returns the tail of the tokens at `begin` to `end` - 1 behind the block `parent`."""
    return Span(begin, end, parent, mark_of(tokens[begin:end]))
