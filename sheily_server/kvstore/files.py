"""What a block's file has in it: a head, the token ids, the cells, and a checksum of all that.
Pure: opens nothing.

Numbers are little-endian. The head is a magic word, the version, the number of tokens, the root's
and the parent's key, the position of the first token, the length of the cells in bytes, and the
first 16 bytes of the SHA-256 of everything else.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from .keys import FORMAT, Span, packed, unpacked

MAGIC = b"SHEILYKV"
_HEAD = struct.Struct("<8sII32s32sIQ")
CHECKSUM = 16
HEAD = _HEAD.size + CHECKSUM

Buffer = bytes | bytearray | memoryview


def before_cells(span: Span, root: bytes, tokens: Sequence[int], cells: Buffer) -> bytes:
    """Returns what precedes the cells in the file of a part of `tokens`."""
    head, ids = _head(span, root, len(cells)), packed(tokens[span.begin : span.end])
    return head + _checksum(head, ids, cells) + ids


def length_before_cells(n_tokens: int) -> int:
    return HEAD + 4 * n_tokens


def tokens_of(before: Buffer) -> list[int]:
    """Returns the ids that precede the cells; whatever they are, nothing is checked."""
    return unpacked(bytes(before[HEAD:]))


def problem(
    before: Buffer, span: Span, root: bytes, tokens: Sequence[int], cells: Buffer
) -> str | None:
    """Says what is wrong with a file that should be that of `span`, whose tokens begin with all of
    `tokens` that there are; None if nothing is."""
    head, ids = _head(span, root, len(cells)), bytes(before[HEAD:])
    if len(before) != length_before_cells(span.end - span.begin) or before[: len(head)] != head:
        return "has another head"
    if not ids.startswith(packed(tokens[span.begin : span.end])):
        return "has other tokens"
    if before[len(head) : HEAD] != _checksum(head, ids, cells):
        return "has a wrong checksum"
    return None


def _head(span: Span, root: bytes, n_bytes: int) -> bytes:
    n_tokens = span.end - span.begin
    return _HEAD.pack(MAGIC, FORMAT, n_tokens, root, span.parent, span.begin, n_bytes)


def _checksum(head: bytes, ids: bytes, cells: Buffer) -> bytes:
    found = hashlib.sha256(head + ids)
    found.update(cells)
    return found.digest()[:CHECKSUM]
