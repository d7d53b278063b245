"""Reads and checks the header of a GGUF file before native code sees it. Knows only the format.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every size is compared with
the size of the file, and no memory is allocated for what the file only claims to have.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_FIRST_BYTES, _REPEATED_BYTES = 32, 20
_OTHERS = (
    (
        b"version https://git-lfs",
        "it is a pointer of Git LFS (git lfs pull fetches the file itself)",
    ),
    (b"<!doctype", "it is a web page, as a failed download leaves"),
    (b"<html", "it is a web page, as a failed download leaves"),
    (b"pk\x03\x04", "it is a zip archive"),
    (b"\x1f\x8b", "it is compressed with gzip"),
    (b"ggml", "it is of a format older than GGUF"),
    (b"lmgg", "it is of a format older than GGUF"),
    (b"fmgg", "it is of a format older than GGUF"),
    (b"tjgg", "it is of a format older than GGUF"),
)
"""What else is given as a model: its first bytes in small letters, and what is said of it."""
MOST_HEADER_BYTES = 1 << 28
_MOST_KEY_BYTES = 1 << 16
_MOST_KEPT_BYTES = 1 << 20
_MOST_DIMENSIONS = 4
_MOST_NAME_BYTES = 63
_CHUNK = 1 << 20
_MOST_NAMED = 100
MOST_LAYERS = 512
"""llama.cpp's limit, which it asserts."""

_STRING, _ARRAY = 8, 9
_SCALARS: Mapping[int, struct.Struct] = MappingProxyType(
    {
        number: struct.Struct("<" + code)
        for number, code in {
            0: "B",
            1: "b",
            2: "H",
            3: "h",
            4: "I",
            5: "i",
            6: "f",
            7: "?",
            10: "Q",
            11: "q",
            12: "d",
        }.items()
    }
)
# ggml's types: elements and bytes per block, as in ggml.h and ggml-common.h. Tensors of types that
# are newer than this table have their sizes unchecked.
_BLOCKS: Mapping[int, tuple[int, int]] = MappingProxyType(
    {
        0: (1, 4),  # F32
        1: (1, 2),  # F16
        2: (32, 18),  # Q4_0
        3: (32, 20),  # Q4_1
        6: (32, 22),  # Q5_0
        7: (32, 24),  # Q5_1
        8: (32, 34),  # Q8_0
        9: (32, 36),  # Q8_1
        10: (256, 84),  # Q2_K
        11: (256, 110),  # Q3_K
        12: (256, 144),  # Q4_K
        13: (256, 176),  # Q5_K
        14: (256, 210),  # Q6_K
        15: (256, 292),  # Q8_K
        20: (32, 18),  # IQ4_NL
        23: (256, 136),  # IQ4_XS
        24: (1, 1),  # I8
        25: (1, 2),  # I16
        26: (1, 4),  # I32
        27: (1, 8),  # I64
        28: (1, 8),  # F64
        30: (1, 2),  # BF16
    }
)


class GGUFError(ValueError):
    """Raised for a file that is not a complete GGUF. The message continues a sentence that begins
    with the file's name: "is empty"."""


FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
}
"""Names of `general.file_type` (llama.cpp, llama.h, llama_ftype)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUF:
    """A file's sizes in bytes and its metadata: numbers and strings by key, and the lengths of
    arrays in `lengths`."""

    file_bytes: int
    tensor_bytes: int
    n_tensors: int
    n_parameters: int
    metadata: Mapping[str, int | float | bool | str]
    lengths: Mapping[str, int]

    @property
    def quantization(self) -> str | None:
        """The name of the type that most weights have; None when the file does not say."""
        kind = self.metadata.get("general.file_type")
        return FILE_TYPES.get(kind) if isinstance(kind, int) else None

    def of_architecture(self, key: str) -> int | None:
        """Returns an integer under the architecture's name, such as `block_count`."""
        value = self.metadata.get(f"{self.metadata.get('general.architecture')}.{key}")
        return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Span:
    """A metadata value: its GGUF type, and where in the file its bytes begin and end."""

    kind: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's name, sizes (the row's length first), ggml type, and offset in the data."""

    name: str
    sizes: tuple[int, ...]
    kind: int
    offset: int


@dataclass(slots=True)
class Layout:
    """Where the parts of a file are: metadata values by key, tensors in the file's order, and the
    byte at which the data begin, from which offsets count."""

    values: dict[str, Span] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    data_begin: int = 0


def check(path: Path) -> GGUF:
    """Reads everything but the tensors. Raises GGUFError, and OSError when it cannot be read."""
    return _read_file(path, None)


def layout(path: Path) -> Layout:
    """Checks the file, and says where its parts are. Raises GGUFError, OSError.

    For programs that copy values or count weights; memory grows with the number of tensors.
    """
    found = Layout()
    _read_file(path, found)
    return found


def _read_file(path: Path, into: Layout | None) -> GGUF:
    with open(path, "rb") as file:
        reader = _Reader(file, os.fstat(file.fileno()).st_size)
        return _read(reader, into)


class _Reader:
    """Reads a file in order, never past its end and never more than the largest allowed header."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._buffer = b""
        self._place = 0
        self._n_read = 0
        self.size = size

    @property
    def position(self) -> int:
        return self._n_read - len(self._buffer) + self._place

    @property
    def n_left(self) -> int:
        return self.size - self.position

    def take(self, n: int, what: str) -> bytes:
        """Returns the next n bytes. Raises GGUFError when there are fewer."""
        begin = self._ready(n, what)
        self._place = begin + n
        return self._buffer[begin : self._place]

    def number(self, form: struct.Struct, what: str) -> int:
        begin = self._ready(form.size, what)
        self._place = begin + form.size
        value: int = form.unpack_from(self._buffer, begin)[0]
        return value

    def skip(self, n: int, what: str) -> None:
        """Skips n bytes without reading those that are not buffered yet."""
        if n > self.n_left:
            raise _cut_off(what)
        here = len(self._buffer) - self._place
        if n <= here:
            self._place += n
            return
        self._n_read = self._file.seek(self._n_read + n - here)
        self._buffer, self._place = b"", 0

    def _ready(self, n: int, what: str) -> int:
        """Buffers the next n bytes; returns where they begin in the buffer."""
        if len(self._buffer) - self._place < n:
            if n > self.n_left:
                raise _cut_off(what)
            if self.position + n > MOST_HEADER_BYTES:
                raise GGUFError(f"has a header of more than {MOST_HEADER_BYTES >> 20} MiB")
            rest = self._buffer[self._place :]
            more = self._file.read(max(n - len(rest), _CHUNK))
            self._n_read += len(more)
            self._buffer, self._place = rest + more, 0
            if len(self._buffer) < n:  # the file shrank while being read
                raise _cut_off(what)
        return self._place


_U32, _U64 = _SCALARS[4], _SCALARS[10]


def _cut_off(what: str) -> GGUFError:
    return GGUFError(f"ends in the middle of {what}: it is damaged, or its download was cut off")


def _read(reader: _Reader, into: Layout | None) -> GGUF:
    if not reader.size:
        raise GGUFError("is empty")
    magic = reader.take(min(4, reader.size), "its first bytes")
    if magic != MAGIC:
        more = reader.take(min(_FIRST_BYTES - len(magic), reader.n_left), "its first bytes")
        raise GGUFError(f"is not a GGUF file: {_what_begins(magic + more)}")
    version = reader.number(_U32, "its version")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        found = "is big-endian" if swapped in VERSIONS else f"has version {version}"
        raise GGUFError(f"{found}; a little-endian GGUF of version 2 or 3 is wanted")
    n_tensors = _count(reader, 24, "tensors")
    n_entries = _count(reader, 13, "metadata entries")
    metadata: dict[str, int | float | bool | str] = {}
    lengths: dict[str, int] = {}
    for i in range(n_entries):
        key = _string(reader, f"metadata entry {i}", _MOST_KEY_BYTES)
        kind = reader.number(_U32, f"the type of {_named(key)}")
        if key in metadata or key in lengths:
            raise GGUFError(f"has the metadata key {_named(key)} twice")
        begin = reader.position
        if kind == _ARRAY:
            lengths[key] = _skip_array(reader, key)
        elif kind == _STRING:
            metadata[key] = _string(reader, f"the value of {_named(key)}")
        else:
            metadata[key] = reader.number(_scalar(kind, key), f"the value of {_named(key)}")
        if into is not None:
            into.values[key] = Span(kind, begin, reader.position)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise GGUFError(f"has an alignment of {_named(str(alignment))}")
    tensor_bytes = n_parameters = 0
    for i in range(n_tensors):
        tensor = _tensor(reader, i, alignment)
        tensor_bytes = max(tensor_bytes, _end(tensor))
        n_parameters += math.prod(tensor.sizes)
        if into is not None:
            into.tensors.append(tensor)
    data_begin = -(-reader.position // alignment) * alignment
    if into is not None:
        into.data_begin = data_begin
    if n_tensors and data_begin + tensor_bytes > reader.size:
        raise GGUFError(
            f"has {reader.size:,} bytes, and its tensors would end at "
            f"{data_begin + tensor_bytes:,}: its download was cut off, or it is damaged"
        )
    header = GGUF(
        file_bytes=reader.size,
        tensor_bytes=tensor_bytes,
        n_tensors=n_tensors,
        n_parameters=n_parameters,
        metadata=metadata,
        lengths=lengths,
    )
    n_layers = header.of_architecture("block_count")
    if n_layers is not None and not 0 <= n_layers <= MOST_LAYERS:
        raise GGUFError(f"says that it has {n_layers:,} layers")
    return header


def _what_begins(first: bytes) -> str:
    """Says what a file seems to be, by its first bytes."""
    for beginning, words in _OTHERS:
        if first.lower().startswith(beginning):
            return words
    if first[8:9] == b"{":  # behind the length of the header
        return "it seems to be in the format safetensors, which llama.cpp's tools convert"
    line = first[:_REPEATED_BYTES].split(b"\n")[0].strip()
    with contextlib.suppress(UnicodeDecodeError):
        text = codecs.getincrementaldecoder("utf-8")().decode(line)  # which its cut may split
        if text and text.isprintable():
            return f"it is a text that begins with '{text}'"
    return f"its first bytes are {first[:4].hex(' ').upper()}, not those of GGUF"


def _named(name: str) -> str:
    """Quotes a name from the file for a message; cuts it when it is long."""
    return repr(name if len(name) <= _MOST_NAMED else name[:_MOST_NAMED] + "…")


def _count(reader: _Reader, least_bytes: int, what: str) -> int:
    """Reads a number of items that take at least `least_bytes` each."""
    n = reader.number(_U64, f"the number of {what}")
    if n * least_bytes > reader.n_left:
        raise GGUFError(f"says that it has {n:,} {what}, for which it is too small")
    return n


def _string(reader: _Reader, what: str, most: int = _MOST_KEPT_BYTES) -> str:
    """Reads a string; skips one longer than `most` and returns ""."""
    n = reader.number(_U64, what)
    if n > reader.n_left:
        raise _cut_off(what)
    if n > most:
        reader.skip(n, what)
        return ""
    return reader.take(n, what).decode("utf-8", "replace")


def _scalar(kind: int, key: str) -> struct.Struct:
    form = _SCALARS.get(kind)
    if form is None:
        raise GGUFError(f"has a value of type {kind} under {_named(key)}, which GGUF does not know")
    return form


def _skip_array(reader: _Reader, key: str) -> int:
    what = f"the array {_named(key)}"
    kind = reader.number(_U32, what)
    n = reader.number(_U64, what)
    if kind != _STRING:
        reader.skip(n * _scalar(kind, key).size, what)
        return n
    if 8 * n > reader.n_left:
        raise _cut_off(what)
    for _ in range(n):
        reader.skip(reader.number(_U64, what), what)
    return n


def _tensor(reader: _Reader, i: int, alignment: int) -> Tensor:
    what = f"the description of tensor {i}"
    name = _string(reader, what, _MOST_KEY_BYTES)
    if len(name.encode()) > _MOST_NAME_BYTES:
        raise GGUFError(f"has a tensor with a name of {len(name):,} characters")
    n_dimensions = reader.number(_U32, what)
    if n_dimensions > _MOST_DIMENSIONS:
        raise GGUFError(f"has a tensor of {n_dimensions} dimensions, {_named(name)}")
    sizes = [reader.number(_U64, what) for _ in range(n_dimensions)]
    kind = reader.number(_U32, what)
    offset = reader.number(_U64, what)
    if offset % alignment:
        raise GGUFError(f"has the tensor {_named(name)} at {offset:,}, which is not aligned")
    return Tensor(name, tuple(sizes), kind, offset)


def _end(tensor: Tensor) -> int:
    """Where a tensor's data end, from the beginning of all data."""
    n_block, n_bytes = _BLOCKS.get(tensor.kind, (1, 0))
    if tensor.sizes and tensor.sizes[0] % n_block:
        name, row = _named(tensor.name), tensor.sizes[0]
        raise GGUFError(f"has the tensor {name} with rows of {row:,}, which are not whole blocks")
    return tensor.offset + math.prod(tensor.sizes) // n_block * n_bytes
