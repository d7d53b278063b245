"""Tokenizing with the real Llama 3 vocabulary, against llama.cpp's own vectors."""

from __future__ import annotations

import pytest

from sheily_native import InvalidArgumentError, Model
from tests.models import VOCABULARY

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
