"""Changes to bytes and to JSON documents, as a seed wants them; knows no target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (0, 1, 2, 7, 8, 31, 32, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
LARGE = (2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1)
STRINGS = (
    "",
    " ",
    "\x00",
    "\ufeff",
    "\ud800",
    "a\udfffb",
    "漢字 é 😀",
    "<|eot_id|>",
    "<|im_end|>\n<|im_start|>system\n",
    "null",
    "$ref",
    "x" * 300,
    "é" * 5000,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    0.0,
    -0.0,
    1e-320,
    1e308,
    2**31,
    2**63,
    -(2**63) - 1,
    2**64,
    10**400,
    "",
    "0",
    "1e9",
    [],
    {},
    [[]],
    [None],
    {"": None},
)


def mutated(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """The bytes with one to four changes; `others` are what pieces may come from."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        random.choice(_CHANGES)(changed, random)
        if others and random.random() < 0.05:
            _splice(changed, random, random.choice(others))
    return bytes(changed)


def _place(data: bytearray, random: Random) -> int:
    return random.randrange(len(data) + 1)


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((0, 10, 13, 32, 34, 127, 128, 255))


def _insert(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    data[place:place] = random.choice(
        (
            b"\x00",
            b"\r\n",
            b"\xff\xfe",
            b"\xc3",
            b"\xed\xa0\x80",
            b'"',
            b"{",
            b"]",
            b"\\u",
            b"9" * 40,
        )
    )


def _cut(data: bytearray, random: Random) -> None:
    begin = _place(data, random)
    del data[begin : begin + random.choice((1, 1, 2, 4, 8, 64))]


def _truncate(data: bytearray, random: Random) -> None:
    del data[_place(data, random) :]


def _repeat(data: bytearray, random: Random) -> None:
    begin = _place(data, random)
    part = data[begin : begin + random.choice((1, 4, 16, 64))]
    data[begin:begin] = part * random.choice((1, 2, 8))


def _number(data: bytearray, random: Random) -> None:
    """A number in little-endian, as binary formats have them."""
    size = random.choice((1, 2, 4, 8))
    place = _place(data, random)
    value = random.choice(NUMBERS + LARGE) % 2 ** (8 * size)
    data[place : place + size] = value.to_bytes(size, "little")


def _splice(data: bytearray, random: Random, other: bytes) -> None:
    begin = random.randrange(len(other) + 1)
    place = _place(data, random)
    data[place:place] = other[begin : begin + random.choice((4, 32, 256))]


_CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip,
    _flip,
    _set,
    _insert,
    _cut,
    _truncate,
    _repeat,
    _number,
)


_DEEP, _MANY = 100, 300


def changed(document: Any, random: Random, values: Sequence[Any] = VALUES + STRINGS) -> Any:
    """A JSON document with one part replaced, left out, doubled, renamed, wrapped or copied. One
    that is deep or wide already stays as it is, so that it can be written as JSON and be read."""
    parts, depth = _parts(document)
    if not parts:
        return random.choice(values)
    if depth > _DEEP or len(parts) > _MANY:
        return document
    document = _copy(document)
    parts, _ = _parts(document)
    holder, key = random.choice(parts)
    way = random.randrange(7)
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, dict):
        name = random.choice([*STRINGS, *(str(other) for _, other in parts)])
        holder[name] = holder.pop(key)
    elif way == 2 and isinstance(holder, list):
        most = 40 if isinstance(holder[key], dict | list) else 600
        holder[key:key] = [holder[key]] * random.choice((1, 3, 40, most))
    elif way == 3:
        depth = random.choice((1, 2, 10, 40, 200))
        for _ in range(depth):
            holder[key] = [holder[key]] if random.random() < 0.5 else {"a": holder[key]}
    elif way == 4:
        other, place = random.choice(parts)
        holder[key] = _copy(other[place])
    elif way == 5 and isinstance(holder, dict):
        holder[random.choice(("", "id_slot", "n_discard", "cache_prompt", "grammar"))] = (
            random.choice(values)
        )
    else:
        holder[key] = _copy(random.choice(values))
    return document


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list) else value


def _parts(document: Any) -> tuple[list[tuple[Any, Any]], int]:
    """Each place inside of a document: what holds it, and the key or index there; and how deep the
    deepest is."""
    found: list[tuple[Any, Any]] = []
    deepest = 0
    open_parts = [(document, 0)]
    while open_parts:
        part, depth = open_parts.pop()
        deepest = max(deepest, depth)
        keys: Any = (
            list(part)
            if isinstance(part, dict)
            else range(len(part))
            if isinstance(part, list)
            else ()
        )
        for key in keys:
            found.append((part, key))
            open_parts.append((part[key], depth + 1))
    return found, deepest
