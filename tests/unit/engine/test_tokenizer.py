"""Where a text may be cut, and what its tokens cover, for vocabularies of other kinds than those of
the models that tests run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sheily_native import InvalidArgumentError, Model
from sheily_server.engine import tokenizer as module
from sheily_server.engine.tokenizer import Tokenizer


class Vocabulary(Model):
    """A model of nothing but pieces; a user-defined one is read as a marker in any text."""

    def __init__(
        self, *pieces: bytes, kind: str = "gpt2", user_defined: frozenset[int] = frozenset()
    ) -> None:
        self._pieces = pieces
        self._user_defined = user_defined
        self.metadata = {"tokenizer.ggml.model": kind}
        self.info = SimpleNamespace(n_vocab=len(pieces))  # type: ignore[assignment]
        self.read: list[str] = []

    def piece(self, token: int, special: bool = False) -> bytes:
        return self._pieces[token]

    def is_user_defined(self, token: int) -> bool:
        return token in self._user_defined

    def tokenize(
        self, text: str | bytes, special: bool = False, *, most: int | None = None
    ) -> list[int]:
        self.read.append(str(text))
        return [len(text)]

    def __del__(self) -> None:
        pass


LETTERS = [bytes([byte]) for byte in range(256)]


@pytest.fixture(autouse=True)
def _cut_wherever_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 1)


def cut(tokenizer: Tokenizer, text: str) -> list[str]:
    slices = list(tokenizer.slices(text))
    assert "".join(slices) == text
    return slices


def test_a_text_is_cut_where_a_word_begins() -> None:
    tokenizer = Tokenizer(Vocabulary(*LETTERS, b" b", b"bc"))
    assert cut(tokenizer, "a b c") == ["a", " b", " c"]
    assert cut(tokenizer, "a\nb c") == ["a\n", "b", " c"]
    for whole in ("a  b", "a 1", "1\n\n2", "abc", "a\n b", "\t b", "é b"):
        assert cut(tokenizer, whole) == [whole]


def test_a_text_is_not_cut_inside_what_could_be_a_token() -> None:
    tokenizer = Tokenizer(Vocabulary(*LETTERS, b"a b", b".\nb"))
    assert cut(tokenizer, "a b c b") == ["a b", " c", " b"]
    assert cut(tokenizer, "c.\nb\nc") == ["c.\nb\nc"]
    assert cut(Tokenizer(Vocabulary(*LETTERS, b"x\n\xc3")), "a\nb") == ["a\nb"]


@pytest.mark.parametrize("kind", ["llama", "bert", "t5", ""])
def test_a_vocabulary_of_another_kind_is_not_cut(kind: str) -> None:
    tokenizer = Tokenizer(Vocabulary(*LETTERS, kind=kind))
    assert cut(tokenizer, "a b c\nd") == ["a b c\nd"]


def test_no_token_has_more_bytes_than_the_longest() -> None:
    tokenizer = Tokenizer(Vocabulary(*LETTERS, b"four", b"<|special|>"))
    assert [tokenizer.least_tokens(n) for n in (0, 1, 11, 12, 110, 111)] == [0, 1, 1, 2, 10, 11]


def test_where_blanks_are_marks_a_mark_in_the_text_is_one_too() -> None:
    """The 48 bytes of 16 such marks may be the token of 16 blanks."""
    tokenizer = Tokenizer(Vocabulary(*LETTERS, b" " * 16, kind="llama"))
    assert tokenizer.least_tokens(tokenizer.n_counted("\u2581".encode() * 16)) == 1


def test_of_a_kind_that_is_not_known_there_is_no_bound() -> None:
    assert Tokenizer(Vocabulary(*LETTERS, kind="bert")).least_tokens(10**9) == 0


def test_bytes_without_a_token_are_not_counted() -> None:
    tokenizer = Tokenizer(Vocabulary(*(one for one in LETTERS if one not in b"\x04\x16"), b"\x04a"))
    assert tokenizer.n_counted(b"a\x04\x16b\x16") == 2


def test_a_user_defined_marker_is_never_read_whole() -> None:
    vocabulary = Vocabulary(*LETTERS, b"<|mark|>", b"<x>", user_defined=frozenset([256, 257]))
    tokenizer = Tokenizer(vocabulary)
    tokenizer.encode_slice("a<|mark|>b<|mark|><|mark|><x>")
    assert vocabulary.read == ["a<", "|mark|>b<", "|mark|><", "|mark|><x>"]


@pytest.mark.parametrize("token", [-1, 256, 2**31])
def test_what_is_no_token_has_no_name(token: int) -> None:
    tokenizer = Tokenizer(Vocabulary(*LETTERS))
    with pytest.raises(InvalidArgumentError, match=str(token)):
        tokenizer.name(token)
    with pytest.raises(InvalidArgumentError, match=str(token)):
        tokenizer.decode([97, token])
