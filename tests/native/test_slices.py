"""The engine's tokenizer on real vocabularies: a text in slices has the ids of the whole."""

from __future__ import annotations

import string
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sheily_native import Model, TooManyTokensError
from sheily_server.engine import tokenizer as module
from sheily_server.engine.tokenizer import SLICE, Tokenizer
from tests.support import models


@pytest.fixture(scope="module", params=["llama3", "smollm2"])
def tokenizer(request: pytest.FixtureRequest) -> Iterator[Tokenizer]:
    path = models.VOCABULARY if request.param == "llama3" else models.smollm2()
    with Model(path, vocab_only=True) as model:
        yield Tokenizer(model)


# What pre-tokenizers part words by: blanks of all sorts, line ends, digits, apostrophes, marks that
# combine with letters, letters of other scripts, and what normalizing or a marker could change.
PIECES = [
    *(
        " ",
        "  ",
        "   ",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        " \n",
        "\n ",
        "\u00a0",
        "\u2028",
        "\u3000",
    ),
    *(
        "a",
        "Z",
        "word",
        "the",
        "Straße",
        "é",
        "e\u0301",
        "\u0301",
        "ñ",
        "Ω",
        "ё",
        "я",
        "漢",
        "字",
        "か",
    ),
    *(
        "한",
        "\u0627",
        "ש",
        "ก",
        "ा",
        "\u200d",
        "\ufeff",
        "😀",
        "👩\u200d🚀",
        "\U0001f1e9\U0001f1ea",
    ),
    *(
        "0",
        "7",
        "123",
        "1234",
        "٣",
        "½",
        "²",
        "'s",
        "'LL",
        "'",
        '"',
        ".",
        ",",
        "!",
        "?!",
        "...",
        "-",
    ),
    *("_", "(", ")", "{", "}", "/", "\\", "#", "@", "=", "<|", "|>", "<|eot_id|>", "<|im_end|>"),
    *("<|reserved_special_token_0|>", "\0", "\x7f", "\x85", "\ue000", "\U0010ffff", "x" * 40),
    *(". A", ".\nA", ", b", "a\nb", "1 a", "! é", "\n漢", "; я"),
]
texts = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"])).map("".join)
thorough = settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])


def whole(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_slice(text)


@thorough
@given(text=texts, size=st.integers(1, 30))
@example(text="one. two. three\nfour\n five\n\nsix  seven", size=1)
@example(text="it's 12345 'S a\u0301 \u0301a. \u0301b", size=1)
def test_slices_have_the_ids_of_the_whole(tokenizer: Tokenizer, text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLICE", size)
        patch.setattr(module, "_WINDOW", size + 3)
        slices = list(tokenizer.slices(text))
    assert "".join(slices) == text
    assert all(slices)
    ids = [token for part in slices for token in tokenizer.encode_slice(part)]
    assert ids == whole(tokenizer, text)


def random_text(random: Random, n: int) -> str:
    return "".join(random.choices(PIECES, k=n))


@pytest.mark.parametrize("seed", range(8))
def test_long_slices_have_the_ids_of_the_whole(tokenizer: Tokenizer, seed: int) -> None:
    text = random_text(Random(seed), 30_000)
    slices = list(tokenizer.slices(text))
    assert "".join(slices) == text
    assert len(slices) > 3
    ids = [token for part in slices for token in tokenizer.encode_slice(part)]
    assert ids == whole(tokenizer, text)


def test_all_of_unicode(tokenizer: Tokenizer) -> None:
    """Each character at the edges of words: whatever is a letter to one library is one to ours."""
    characters = [chr(i) for i in range(0x3200) if not 0xD800 <= i < 0xE000]
    text = "".join(f"a{c}b {c}. {c}a. a{c}\n{c}\nb{c} b" for c in characters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLICE", 1)
        slices = list(tokenizer.slices(text))
    assert "".join(slices) == text
    assert len(slices) > len(characters)
    ids = [token for part in slices for token in tokenizer.encode_slice(part)]
    assert ids == whole(tokenizer, text)


def test_prose_is_cut_soon_after_a_slice_is_full(tokenizer: Tokenizer) -> None:
    text = "A sentence with some words, and then another one. " * 5000
    sizes = [len(part) for part in tokenizer.slices(text)]
    assert sum(sizes) == len(text)
    assert len(sizes) >= len(text) // (SLICE + 100)
    assert max(sizes) < SLICE + 100


def test_what_cannot_be_cut_is_one_slice(tokenizer: Tokenizer) -> None:
    for text in ("a" * 100_000, " " * 100_000, "\n" * 100_000):
        assert list(tokenizer.slices(text)) == [text]
    assert list(tokenizer.slices("")) == []


@thorough
@given(text=texts)
def test_no_text_has_fewer_tokens_than_the_bound(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.least_tokens(tokenizer.n_counted(text.encode())) <= len(whole(tokenizer, text))


def test_bytes_that_a_vocabulary_lacks_are_not_counted(tokenizer: Tokenizer) -> None:
    for character in map(chr, range(0x80)):
        assert (tokenizer.n_counted(character.encode()) == 0) == (whole(tokenizer, character) == [])
    text = "\x04\x06\x13\x14\x16\x1d" * 10_000
    n_tokens = len(whole(tokenizer, text))
    assert n_tokens in (0, len(text))  # the vocabulary of SmolLM2 lacks them
    assert tokenizer.least_tokens(tokenizer.n_counted(text.encode())) <= n_tokens


def test_the_bound_is_that_of_the_longest_token(tokenizer: Tokenizer) -> None:
    """Texts of the longest tokens have no fewer tokens than the bound says, and not many more."""
    longest = sorted(range(tokenizer.n_vocab), key=lambda token: -len(tokenizer.piece(token)))
    nearest = 1e9
    for token in longest[:300]:
        try:
            text = tokenizer.piece(token).decode()
        except UnicodeDecodeError:
            continue
        for n in (1, 2, 100):
            n_tokens = len(whole(tokenizer, text * n))
            least = tokenizer.least_tokens(tokenizer.n_counted(text.encode()) * n)
            assert 1 <= least <= n_tokens
            nearest = min(nearest, n_tokens / least)
    assert nearest < 2
    assert tokenizer.least_tokens(0) == 0


@thorough
@given(text=texts.filter(bool), data=st.data())
def test_more_tokens_than_wanted(tokenizer: Tokenizer, text: str, data: st.DataObject) -> None:
    n = len(whole(tokenizer, text))
    most = data.draw(st.integers(0, n + 1))
    if most >= n:
        assert tokenizer.encode_slice(text, most) == whole(tokenizer, text)
    elif not any(marker in text for marker in tokenizer._loose):  # which would be read in parts
        with pytest.raises(TooManyTokensError) as caught:
            tokenizer.encode_slice(text, most)
        assert most < caught.value.count <= n


def test_many_tokens_are_refused(tokenizer: Tokenizer) -> None:
    text = string.ascii_letters * 1000
    with pytest.raises(TooManyTokensError):
        tokenizer.encode_slice(text, 100)


def test_a_marker_in_a_text_is_never_a_control_token(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.vocabulary
    control = set(vocabulary.control)
    names = [tokenizer.name(token).decode("utf-8", "replace") for token in control]
    assert len(names) > 2
    for name in names:
        text = f"a {name} b{name}\n{name}c"
        ids = [token for part in tokenizer.slices(text) for token in tokenizer.encode_slice(part)]
        assert not control & set(ids)
        assert tokenizer.decode(ids) == text
