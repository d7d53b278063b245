"""A text on its way to token ids: nothing is left out, and it is left when it cannot fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.engine.kvcache.answer_ids import AnswerIds
from sheily_server.engine.reading import (
    MOST_OF_A_SLICE,
    SHORT,
    Reading,
    SliceTooLongError,
    TextTooLongError,
)
from sheily_server.protocol.commands import Segment
from tests.support.fake_tokenizer import Letters


class Counting(Letters):
    """Remembers the slices that were read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def encode_slice(self, text: str, most: int | None = None) -> list[int]:
        self.read.append(text)
        return super().encode_slice(text, most)


class WithoutBound(Counting):
    """Does not know of a text that it has many tokens before they are there."""

    def least_tokens(self, n_counted: int) -> int:
        return 0


def finished(reading: Reading) -> list[int]:
    while (n_bytes := reading.look()) is not None:
        assert n_bytes == reading.look()  # looking again changes nothing
        before = reading.bytes_left
        reading.advance()
        assert reading.bytes_left == before - n_bytes
    assert reading.look() is None
    assert reading.at_end
    assert reading.bytes_left == 0
    return reading.tokens


texts = st.text(st.sampled_from("ab é😀\n"), max_size=12)
segments_strategy = st.lists(
    st.builds(Segment, st.just("<|x|>"), st.just(True)) | st.builds(Segment, texts, st.just(False)),
    max_size=6,
)


@given(segments_strategy)
def test_the_ids_are_those_of_the_segments(segments: list[Segment]) -> None:
    reading = Reading(Letters(), segments, most=10**9, param="messages")
    expected: list[int] = []
    for segment in segments:
        n_before_last = len(expected)
        expected += [1] if segment.special else map(ord, segment.text)
    assert finished(reading) == expected
    if segments:
        assert reading.n_before_last == n_before_last


def test_a_long_text_is_read_slice_by_slice() -> None:
    tokenizer = Counting()
    text = "word " * 10_000
    reading = Reading(tokenizer, [Segment(text, False)], most=10**9, param="messages")
    assert not reading.is_short
    assert finished(reading) == list(map(ord, text))
    assert len(tokenizer.read) == 50
    assert "".join(tokenizer.read) == text


def test_a_text_that_cannot_fit_is_not_read_at_all() -> None:
    tokenizer = Counting()
    reading = Reading(tokenizer, [Segment("word " * 10_000, False)], most=12_499, param="messages")
    with pytest.raises(TextTooLongError) as caught:
        finished(reading)
    assert caught.value.least == 12_500  # a token has 4 bytes at most
    assert tokenizer.read == []
    assert not reading.at_end
    reading = Reading(tokenizer, [Segment("word " * 10_000, False)], most=12_500, param="messages")
    reading.look()


def test_a_text_is_left_as_soon_as_it_cannot_fit() -> None:
    tokenizer = Counting()
    reading = Reading(tokenizer, [Segment("word " * 10_000, False)], most=20_000, param="messages")
    with pytest.raises(TextTooLongError) as caught:
        finished(reading)
    assert caught.value.least > 20_000
    assert 10 <= len(tokenizer.read) <= 15


@pytest.mark.parametrize("most", [999, 1000, 20_001, 49_999])
def test_of_the_last_slice_no_more_is_read_than_fits(most: int) -> None:
    tokenizer = WithoutBound()
    reading = Reading(tokenizer, [Segment("word " * 10_000, False)], most=most, param="messages")
    with pytest.raises(TextTooLongError) as caught:
        finished(reading)
    assert caught.value.least > most
    assert len(tokenizer.read) == most // 1000 + 1
    assert len(reading.tokens) <= most


def test_a_short_text_is_read_to_its_end() -> None:
    """Whoever sent it is told how many tokens it has."""
    for n in (SHORT - 1, SHORT):
        reading = Reading(Letters(), [Segment("a" * n, False)], most=5, param="messages")
        assert reading.is_short
        assert len(finished(reading)) == n
    assert not Reading(
        Letters(), [Segment("a" * (SHORT + 1), False)], most=5, param="messages"
    ).is_short


def test_bytes_are_counted_not_characters() -> None:
    assert not Reading(Letters(), [Segment("é" * SHORT, False)], most=5, param="messages").is_short


def test_a_part_that_cannot_be_cut_has_a_limit() -> None:
    tokenizer = WithoutBound()
    text = "a" * (MOST_OF_A_SLICE + 1)
    reading = Reading(
        tokenizer, [Segment("<|x|>", True), Segment(text, False)], most=10**9, param="prediction"
    )
    with pytest.raises(SliceTooLongError, match=str(MOST_OF_A_SLICE)) as caught:
        finished(reading)
    assert caught.value.param == "prediction"
    assert tokenizer.read == []
    assert (
        len(finished(Reading(tokenizer, [Segment(text[1:], False)], most=10**9, param="text")))
        == len(text) - 1
    )


def kept() -> AnswerIds:
    """An answer that said `ab` behind a marker and `q`."""
    answers = AnswerIds(1000)
    answers.remember("me", [1, ord("q")], "ab", [500])
    return answers


@pytest.mark.parametrize(
    ("question", "scope", "ids"),
    [
        ("q", "me", [1, ord("q"), 500, 1]),
        ("q", "you", [1, ord("q"), 97, 98, 1]),
        ("q", "", [1, ord("q"), 97, 98, 1]),
        ("p", "me", [1, ord("p"), 97, 98, 1]),
        ("qq", "me", [1, ord("q"), ord("q"), 97, 98, 1]),
    ],
)
def test_an_answer_has_its_ids_in_its_conversation_alone(
    question: str, scope: str, ids: list[int]
) -> None:
    marker = Segment("<|x|>", True)
    segments = [marker, Segment(question, False), Segment("ab", False), marker]
    reading = Reading(Letters(), segments, most=100, param="messages", answers=kept(), scope=scope)
    assert finished(reading) == ids
    assert reading.n_before_last == len(ids) - 1


def test_an_answer_behind_an_answer_has_its_ids() -> None:
    """Each is looked for behind the ids of those before it, not of their texts."""
    answers = kept()
    answers.remember("me", [1, ord("q"), 500, 1], "ab", [600, 601])
    answers.remember("me", [1, ord("q"), 97, 98, 1], "ab", [700])
    marker, said = Segment("<|x|>", True), Segment("ab", False)
    segments = [marker, Segment("q", False), said, marker, said]
    assert finished(
        Reading(Letters(), segments, most=100, param="messages", answers=answers, scope="me")
    ) == [*(1, ord("q"), 500, 1, 600, 601)]


def test_many_answers_cost_no_depth() -> None:
    answers = AnswerIds(10**6)
    tokens: list[int] = []
    for _ in range(5000):
        answers.remember("me", tokens, "ab", [500])
        tokens.append(500)
    segments = [Segment("ab", False)] * 5000
    assert (
        finished(
            Reading(Letters(), segments, most=10**6, param="messages", answers=answers, scope="me")
        )
        == tokens
    )
