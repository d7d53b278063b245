"""Inputs of the GGUF targets: the beginnings of small model files, with damage.

An input is the size of the file, as 8 bytes in little-endian, and what it begins with; the rest of
the file is zeros, so that an input stays small.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

from tests.robustness.fuzz.mutate import LARGE, NUMBERS, mutated
from tests.robustness.fuzz.running import seeds
from tests.support import models
from tests.support.gguf_files import Llama, write_llama
from tools.gguf_file import Value, encode, write_header

MOST_BYTES = 64 << 20
_SIZE = struct.Struct("<Q")
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_TINY_EVERY = 500


def make(random: Random, folder: Path) -> bytes:
    size, head = random.choice(_heads(folder) * 4 + _kept())
    if random.randrange(_TINY_EVERY) == 0:
        size, head = _tiny()
    data = bytearray(head)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        place, n_bytes = random.choice(_numbers(head))
        data[place : place + n_bytes] = _number(random, n_bytes, bytes(data), place)
    head = bytes(data)
    if random.random() < 0.3:
        head = mutated(head, random)
    if random.random() < 0.2:
        size = random.choice((0, 1, 4, 23, 24, len(head), len(head) + 1, size - 1, size // 2))
    return _SIZE.pack(size) + head[:size]


def write(data: bytes, path: Path) -> None:
    """The file that an input stands for."""
    size = min(_SIZE.unpack(data[:8].ljust(8, b"\0"))[0], MOST_BYTES)
    with path.open("wb") as file:
        file.write(data[8 : 8 + size])
        file.truncate(size)


def _number(random: Random, n_bytes: int, data: bytes, place: int) -> bytes:
    now = int.from_bytes(data[place : place + n_bytes], "little")
    others = [now + 1, now - 1, now * 2, now * 1000, now ^ 1 << random.randrange(8 * n_bytes)]
    value = random.choice([*NUMBERS, *LARGE, *others, *others, random.randrange(300)])
    return (value & ((1 << 8 * n_bytes) - 1)).to_bytes(n_bytes, "little")


@cache
def _heads(folder: Path) -> list[tuple[int, bytes]]:
    """Sizes and beginnings of whole small models, without and with experts and a vocabulary."""
    shapes = (Llama(), Llama(experts=2, layers=1), Llama(untied=True, layers=1, vocabulary=64))
    found = []
    for i, shape in enumerate(shapes):
        path = write_llama(folder / f"{i}.gguf", shape)
        found.append(_head(path))
    path = folder / "vocabulary.gguf"
    with path.open("wb") as file:
        write_header(file, _vocabulary(), [])
    return [*found, *[_head(path)] * 2]


def _vocabulary() -> dict[str, Value]:
    tokens = [chr(code) for code in range(33, 127)]
    tokens += ["ab", "cd", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end|>"]
    kinds = [1] * (len(tokens) - 4) + [3] * 4
    plain: dict[str, str | float | list[str]] = {
        "general.architecture": "llama",
        "general.name": "small",
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 32,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": ["a b", "c d"],
        "tokenizer.ggml.bos_token_id": len(tokens) - 1,
        "tokenizer.ggml.eos_token_id": len(tokens) - 2,
        "tokenizer.chat_template": "{{ '<|start_header_id|>' }}",
    }
    integers, array = 5, 9
    head = struct.pack("<IQ", integers, len(kinds)) + struct.pack(f"<{len(kinds)}i", *kinds)
    fields = {key: encode(content) for key, content in plain.items()}
    return fields | {"tokenizer.ggml.token_type": Value(array, head)}


@cache
def _kept() -> list[tuple[int, bytes]]:
    return [(_SIZE.unpack(data[:8])[0], data[8:]) for data in seeds("gguf") if len(data) > 8]


@cache
def _tiny() -> tuple[int, bytes]:
    """Llama 3.2's whole vocabulary: megabytes, and slow."""
    return _head(models.tiny_llama3())


def _head(path: Path) -> tuple[int, bytes]:
    """A file's size and its bytes before the tensors."""
    data = path.read_bytes()
    return len(data), data[: _end(data)]


@cache
def _numbers(head: bytes) -> list[tuple[int, int]]:
    """Places and sizes of the numbers in a header: counts, lengths, types, dimensions, offsets."""
    found: list[tuple[int, int]] = []
    _walk(head, lambda place, size: found.append((place, size)))
    return found or [(0, 4)]


def _end(head: bytes) -> int:
    return _walk(head, lambda place, size: None)


_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MOST_ARRAY = 50


def _walk(head: bytes, note: Callable[[int, int], None]) -> int:
    """Reads a header as long as it makes sense; where it ends. Long arrays are not noted whole."""
    place = 4

    def number(form: struct.Struct, noted: bool = True) -> int:
        nonlocal place
        value: int = form.unpack_from(head, place)[0]
        if noted:
            note(place, form.size)
        place += form.size
        return value

    try:
        number(_U32)
        n_tensors, n_entries = number(_U64), number(_U64)
        for _ in range(n_entries):
            place += number(_U64)
            kind, n, is_array = number(_U32), 1, False
            if kind == 9:
                kind, n, is_array = number(_U32), number(_U64), True
            if kind == 8:
                for i in range(n):
                    place += number(_U64, noted=i < _MOST_ARRAY)
            else:
                if not is_array:
                    note(place, _SCALARS[kind])
                place += n * _SCALARS[kind]
        for _ in range(n_tensors):
            place += number(_U64)
            for _ in range(number(_U32)):
                number(_U64)
            number(_U32)
            number(_U64)
    except (struct.error, KeyError, OverflowError):
        return len(head)
    return min(place, len(head))
