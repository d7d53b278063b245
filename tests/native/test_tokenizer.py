"""Tokenizing with the real Llama 3 vocabulary, against llama.cpp's own vectors."""

from __future__ import annotations

from typing import Any

import pytest

from sheily_native import InvalidArgumentError, Model, NativeError, TooManyTokensError
from sheily_native import model as model_module
from sheily_native._library import library
from tests.support.models import VOCABULARY

TEXT = "one two three " * 100
SEPARATOR = "\n__ggml_vocab_test__\n"


def vectors() -> list[tuple[str, list[int]]]:
    texts = VOCABULARY.with_name(VOCABULARY.name + ".inp").read_text("utf-8").split(SEPARATOR)
    lines = VOCABULARY.with_name(VOCABULARY.name + ".out").read_text("utf-8").splitlines()
    return [
        (text, [int(id) for id in line.split()]) for text, line in zip(texts, lines, strict=False)
    ]


def test_there_are_vectors() -> None:
    assert len(vectors()) > 40


@pytest.mark.parametrize(("text", "ids"), vectors())
def test_vector(vocabulary: Model, text: str, ids: list[int]) -> None:
    assert vocabulary.tokenize(text) == ids
    assert b"".join(vocabulary.piece(id) for id in ids) == text.encode()


def test_a_marker_is_text_unless_special_is_asked_for(vocabulary: Model) -> None:
    assert vocabulary.tokenize("<|eot_id|>", special=True) == [128009]
    as_text = vocabulary.tokenize("<|eot_id|>")
    assert len(as_text) > 1
    assert not any(vocabulary.is_control(token) for token in as_text)
    assert b"".join(vocabulary.piece(token) for token in as_text) == b"<|eot_id|>"


def test_ends_of_generation(tiny: Model) -> None:
    ends = {id: tiny.piece(id, special=True) for id in range(128_256) if tiny.is_end(id)}
    assert ends == {128001: b"<|end_of_text|>", 128008: b"<|eom_id|>", 128009: b"<|eot_id|>"}
    assert tiny.piece(128010, special=True) == b"<|python_tag|>"  # which is none


def test_pieces(vocabulary: Model) -> None:
    assert vocabulary.piece(128009) == b""
    assert vocabulary.piece(128009, special=True) == b"<|eot_id|>"
    long_piece = max(range(0, 128000, 7), key=lambda id: len(vocabulary.piece(id)))
    assert len(vocabulary.piece(long_piece)) > 64  # longer than the first buffer


@pytest.mark.parametrize("token", [-1, 128256, 2**31 - 1])
def test_a_piece_of_no_token(vocabulary: Model, token: int) -> None:
    with pytest.raises(InvalidArgumentError, match=str(token)):
        vocabulary.piece(token)


def test_empty_and_binary_text(vocabulary: Model) -> None:
    assert vocabulary.tokenize("") == []
    nul = vocabulary.tokenize("a\0b")
    assert b"".join(vocabulary.piece(token) for token in nul) == b"a\0b"


def test_no_bos_is_added(vocabulary: Model) -> None:
    assert vocabulary.info.add_bos
    assert vocabulary.info.token_bos == 128000
    assert 128000 not in vocabulary.tokenize("hello", special=True)


class WatchedFfi:
    """cffi's, with the sizes of the buffers for tokens that were made, and the lists."""

    def __init__(self, ffi: Any) -> None:
        self._ffi = ffi
        self.capacities: list[int] = []
        self.lists = 0

    def new(self, kind: str, *size: int) -> Any:
        if kind == "int32_t[]":
            self.capacities += size
        return self._ffi.new(kind, *size)

    def unpack(self, tokens: Any, count: int) -> Any:
        self.lists += 1
        return self._ffi.unpack(tokens, count)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> WatchedFfi:
    ffi, lib = library()
    watched = WatchedFfi(ffi)
    monkeypatch.setattr(model_module, "library", lambda: (watched, lib))
    return watched


def test_as_many_tokens_as_are_allowed(vocabulary: Model) -> None:
    ids = vocabulary.tokenize(TEXT)
    for most in (len(ids), len(ids) + 1, 10**12):
        assert vocabulary.tokenize(TEXT, most=most) == ids
    assert vocabulary.tokenize("", most=0) == []


@pytest.mark.parametrize("most", [0, 1, 100, len(TEXT.split()) - 1])
def test_more_tokens_than_are_allowed(vocabulary: Model, watched: WatchedFfi, most: int) -> None:
    count = len(vocabulary.tokenize(TEXT))
    watched.capacities, watched.lists = [], 0
    with pytest.raises(TooManyTokensError, match=f"{count} tokens, more than {most}$") as caught:
        vocabulary.tokenize(TEXT, most=most)
    assert isinstance(caught.value, NativeError)
    assert caught.value.count == count
    assert watched.capacities == [most + 1]
    assert watched.lists == 0


def test_one_token_more_than_is_allowed(vocabulary: Model, watched: WatchedFfi) -> None:
    """They fit into the buffer."""
    ids = vocabulary.tokenize(TEXT)
    watched.capacities, watched.lists = [], 0
    with pytest.raises(TooManyTokensError) as caught:
        vocabulary.tokenize(TEXT, most=len(ids) - 1)
    assert caught.value.count == len(ids)
    assert watched.capacities == [len(ids)]
    assert watched.lists == 0


def test_a_wide_bound_takes_no_room(vocabulary: Model, watched: WatchedFfi) -> None:
    vocabulary.tokenize("hello", most=10**12)
    assert watched.capacities == [len("hello") + 1]


def test_a_negative_bound_is_refused(vocabulary: Model) -> None:
    with pytest.raises(InvalidArgumentError, match="most is -1"):
        vocabulary.tokenize("", most=-1)
