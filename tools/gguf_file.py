"""Writes GGUF headers, of values that are made here or copied from another file; knows nothing of
any model's sizes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sheily_server.backend.gguf import MAGIC, GGUFError, Layout, layout

ALIGNMENT = 32
TENSOR_F32, TENSOR_Q8_0 = 0, 8

_VERSION = 3
_U32, _F32, _STRING, _ARRAY = 4, 6, 8, 9


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
    if value.kind != _ARRAY or struct.unpack_from("<I", value.raw)[0] != _STRING:
        raise ValueError("not an array of strings")
    strings, position = [], 12
    for _ in range(struct.unpack_from("<Q", value.raw, 4)[0]):
        begin = position + 8
        position = begin + struct.unpack_from("<Q", value.raw, position)[0]
        strings.append(value.raw[begin:position].decode("utf-8"))
    return strings


def read_layout(path: Path) -> Layout:
    """Where a file's parts are. Raises ValueError for a file that is no whole GGUF; OSError."""
    try:
        return layout(path)
    except GGUFError as error:
        raise ValueError(f"{path} {error}") from error


def read_metadata(path: Path) -> dict[str, Value]:
    """A file's metadata, each value left encoded. Raises ValueError, OSError."""
    found = read_layout(path)
    with path.open("rb") as file:
        header = file.read(found.data_begin)
    return {
        key: Value(span.kind, header[span.begin : span.end]) for key, span in found.values.items()
    }


def write_header(
    file: BinaryIO, fields: Mapping[str, Value], tensors: Iterable[TensorInfo]
) -> None:
    """Write all that comes before the first tensor's data, padded to the alignment.

    The data of each tensor is to follow in the same order, each padded to `ALIGNMENT` bytes.
    """
    infos = tuple(tensors)
    file.write(MAGIC + struct.pack("<IQQ", _VERSION, len(infos), len(fields)))
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


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data
