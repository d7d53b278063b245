"""The check of a GGUF file before native code reads it."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheily_server.backend.gguf import GGUF, GGUFError, Tensor, check, layout
from tests.support.models import EMPTY_GGUF, VOCABULARY


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, sizes: list[int], kind: int, offset: int) -> bytes:
    head = text(name) + struct.pack("<I", len(sizes))
    return head + struct.pack(f"<{len(sizes)}Q", *sizes) + struct.pack("<IQ", kind, offset)


def whole(entries: list[bytes], tensors: list[bytes], data: bytes = b"", version: int = 3) -> bytes:
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(entries))
    head += b"".join(entries) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data


ENTRIES = [
    entry("general.architecture", 8, text("llama")),
    entry("llama.block_count", 4, struct.pack("<I", 28)),
    entry("llama.rope.freq_base", 6, struct.pack("<f", 5e5)),
    entry("general.flag", 7, b"\x01"),
    entry("tokenizer.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("bc")),
    entry("tokenizer.scores", 9, struct.pack("<IQ", 6, 3) + bytes(12)),
]
TENSORS = [tensor("a", [64, 2], 8, 0), tensor("b", [3], 0, 160)]
DATA = bytes(160 + 12)
GOOD = whole(ENTRIES, TENSORS, DATA)


def checked(folder: Path, data: bytes) -> GGUF:
    path = folder / "m.gguf"
    path.write_bytes(data)
    return check(path)


def test_the_parts_of_a_file_are_where_the_layout_says(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(GOOD)
    found = layout(path)
    assert found.tensors == [Tensor("a", (64, 2), 8, 0), Tensor("b", (3,), 0, 160)]
    assert found.data_begin == len(GOOD) - len(DATA)
    whole_file = check(path)
    assert list(found.values) == [*whole_file.metadata, *whole_file.lengths]
    values = {key: (span.kind, GOOD[span.begin : span.end]) for key, span in found.values.items()}
    assert values["general.architecture"] == (8, text("llama"))
    assert values["llama.block_count"] == (4, struct.pack("<I", 28))
    assert values["tokenizer.scores"] == (9, struct.pack("<IQ", 6, 3) + bytes(12))
    path.write_bytes(GOOD[:-1])
    with pytest.raises(GGUFError, match="its download was cut off"):
        layout(path)


def refused(folder: Path, data: bytes) -> str:
    with pytest.raises(GGUFError) as caught:
        checked(folder, data)
    return str(caught.value)


def test_a_whole_file(tmp_path: Path) -> None:
    found = checked(tmp_path, GOOD)
    assert found.n_tensors == 2
    assert found.tensor_bytes == 172
    assert found.file_bytes == len(GOOD)
    assert found.of_architecture("block_count") == 28
    assert found.of_architecture("nothing") is None
    assert found.metadata["general.flag"] is True
    assert found.lengths == {"tokenizer.tokens": 2, "tokenizer.scores": 3}
    assert checked(tmp_path, EMPTY_GGUF).n_tensors == 0
    assert checked(tmp_path, whole(ENTRIES, TENSORS, DATA, version=2)).n_tensors == 2


def test_a_real_vocabulary() -> None:
    found = check(VOCABULARY)
    assert found.lengths["tokenizer.ggml.tokens"] == 128_256
    assert found.metadata["general.architecture"] == "llama"


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    for n in range(len(GOOD)):
        words = refused(tmp_path, GOOD[:n])
        assert "cut off" in words or "too small" in words or n < 24


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(99), "is not a GGUF file: it is a zip archive"),
        (b"# SHEILY\n\nA server.", "is not a GGUF file: it is a text that begins with '# SHEILY'"),
        ("¡Hola, ¿cómo estáis?".encode(), "it is a text that begins with '¡Hola, ¿cómo est'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"\x18\0\0\0\0\0\0\0{}" + bytes(30), "in the format safetensors"),
        (b"lmgg\x01\0\0\0", "of a format older than GGUF"),
        (b"\x89PNG\r\n\x1a\n\0\0", "its first bytes are 89 50 4E 47, not those of GGUF"),
        (b"\n", "its first bytes are 0A, not those of GGUF"),
        (whole([], [], version=1), "has version 1"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "is big-endian"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 0), "1,152,921,504,606,846,976 tensors"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**63), "metadata entries"),
        (whole([entry("k", 99, bytes(8))], []), "type 99"),
        (whole([entry("k", 9, struct.pack("<IQ", 9, 1))], []), "type 9"),
        (whole([entry("k", 9, struct.pack("<IQ", 8, 2**61))], []), "cut off"),
        (whole([entry("k", 9, struct.pack("<IQ", 12, 2**61))], []), "cut off"),
        (whole([entry("k", 8, struct.pack("<Q", 2**62))], []), "cut off"),
        (whole([ENTRIES[0], ENTRIES[0]], []), "twice"),
        (whole([entry("general.alignment", 4, bytes(4))], []), "alignment"),
        (whole([], [tensor("a", [2] * 5, 0, 0)], DATA), "5 dimensions"),
        (whole([], [tensor("a", [33], 8, 0)], DATA), "which are not whole blocks"),
        (whole([], [tensor("a", [32], 8, 8)], DATA), "not aligned"),
        (whole([], [tensor("a", [2**40, 2**40], 0, 0)], DATA), "cut off"),
        (whole([], [tensor("a", [32], 8, 2**60)], DATA), "cut off"),
        (whole([entry("k" * 9999, 99, bytes(8))], []), "'" + "k" * 100 + "…'"),
        (whole([ENTRIES[0], entry("llama.block_count", 4, b"\xff" * 4)], []), "layers"),
        (whole([], [tensor("x" * 64, [32], 8, 0)], DATA), "64 characters"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in refused(tmp_path, data)


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, len(GOOD)),
)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(GOOD[:cut])
    for place, value in changes:
        if place < cut:
            data[place] = value
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    path.write_bytes(data)
    with contextlib.suppress(GGUFError):
        check(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check(tmp_path / "none.gguf")
