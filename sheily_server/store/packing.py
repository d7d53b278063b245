"""A record's texts as one compressed block. Knows nothing of where blocks are kept."""

from __future__ import annotations

import zlib

import msgspec
from msgspec import Struct

from .base import Record


class UnpackError(Exception):
    """The block is not what `pack` made."""


class _Texts(Struct, frozen=True, array_like=True):
    body: bytes
    items: bytes
    context: bytes
    events: bytes


_decoder = msgspec.msgpack.Decoder(_Texts)


def pack(record: Record) -> bytes:
    """Compresses the texts of a record. The fastest level: JSON shrinks to a fifth with it."""
    texts = _Texts(record.body, record.items, record.context, record.events)
    return zlib.compress(msgspec.msgpack.encode(texts), 1)


def unpack(
    block: bytes, *, id: str, owner: str, created: int, status: str, previous: str | None
) -> Record:
    """Returns the record of a block. Raises UnpackError where bytes of it were changed: zlib's
    format ends with a checksum."""
    try:
        texts = _decoder.decode(zlib.decompress(block))
    except (zlib.error, msgspec.DecodeError) as error:
        raise UnpackError(f"a stored response is damaged ({error})") from None
    return Record(
        id=id,
        owner=owner,
        created=created,
        status=status,
        body=texts.body,
        items=texts.items,
        context=texts.context,
        previous=previous,
        events=texts.events,
    )
