"""The GGUF file format, metadata in and headers out; knows nothing of any model's sizes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO

ALIGNMENT = 32
TENSOR_F32, TENSOR_Q8_0 = 0, 8

_MAGIC, _VERSION = b"GGUF", 3
_U32, _F32, _STRING, _ARRAY = 4, 6, 8, 9
_SIZES = MappingProxyType({0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8})


@dataclass(frozen=True, slots=True)
class Value:
    """A metadata value as the file holds it: the GGUF type and the bytes that follow the type."""

    kind: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What the header says of a tensor: sizes with the row's length first, ggml type, bytes."""

    name: str
    sizes: tuple[int, ...]
    kind: int
    nbytes: int


def encode(content: str | float | list[str]) -> Value:
    """Encode a text, a whole number (32 bits, unsigned), a float (32 bits) or a list of texts."""
    if isinstance(content, str):
        return Value(_STRING, _string(content))
    if isinstance(content, list):
        head = struct.pack("<IQ", _STRING, len(content))
        return Value(_ARRAY, head + b"".join(map(_string, content)))
    if isinstance(content, int):
        return Value(_U32, struct.pack("<I", content))
    return Value(_F32, struct.pack("<f", content))


def decode_strings(value: Value) -> list[str]:
    """The strings of an array of strings; ValueError for a value of another type."""
    if value.kind != _ARRAY or _number("<I", value.raw, 0) != _STRING:
        raise ValueError("not an array of strings")
    strings, position = [], 12
    for _ in range(_number("<Q", value.raw, 4)):
        end = _end_of_value(value.raw, position, _STRING)
        strings.append(value.raw[position + 8 : end].decode("utf-8"))
        position = end
    return strings


def read_metadata(data: bytes) -> dict[str, Value]:
    """The metadata of a little-endian GGUF 3 file, each value left encoded.

    Format: llama.cpp, `ggml/include/gguf.h`. Raises ValueError for anything else.
    """
    if len(data) < 24 or data[:4] != _MAGIC or _number("<I", data, 4) != _VERSION:
        raise ValueError("not a GGUF file of version 3")
    count, position = _number("<Q", data, 16), 24
    fields: dict[str, Value] = {}
    try:
        for _ in range(count):
            end = _end_of_value(data, position, _STRING)
            key = data[position + 8 : end].decode("utf-8")
            kind = _number("<I", data, end)
            position = _end_of_value(data, end + 4, kind)
            fields[key] = Value(kind, data[end + 4 : position])
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"damaged GGUF metadata at byte {position}") from error
    if position > len(data):
        raise ValueError("the GGUF metadata is cut short")
    return fields


def write_header(
    file: BinaryIO, fields: Mapping[str, Value], tensors: Iterable[TensorInfo]
) -> None:
    """Write all that comes before the first tensor's data, padded to the alignment.

    The data of each tensor is to follow in the same order, each padded to `ALIGNMENT` bytes.
    """
    infos = tuple(tensors)
    file.write(_MAGIC + struct.pack("<IQQ", _VERSION, len(infos), len(fields)))
    file.writelines(
        _string(key) + struct.pack("<I", value.kind) + value.raw for key, value in fields.items()
    )
    offset = 0
    for info in infos:
        file.write(_string(info.name) + struct.pack("<I", len(info.sizes)))
        file.write(struct.pack(f"<{len(info.sizes)}QIQ", *info.sizes, info.kind, offset))
        offset += info.nbytes + -info.nbytes % ALIGNMENT
    pad(file)


def pad(file: BinaryIO) -> None:
    """Write zeros up to the next multiple of `ALIGNMENT`."""
    file.write(bytes(-file.tell() % ALIGNMENT))


def _number(form: str, data: bytes, position: int) -> int:
    return int(struct.unpack_from(form, data, position)[0])


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _end_of_value(data: bytes, position: int, kind: int) -> int:
    if kind == _STRING:
        return position + 8 + _number("<Q", data, position)
    if kind != _ARRAY:
        return position + _SIZES[kind]
    item, count = struct.unpack_from("<IQ", data, position)
    position += 12
    if item in _SIZES:
        return position + int(count) * _SIZES[item]
    for _ in range(count):
        position = _end_of_value(data, position, item)
    return position
