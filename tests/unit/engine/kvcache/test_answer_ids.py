"""The ids of answers, found by who asked, what stood before, and their text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.engine.kvcache.answer_ids import AnswerIds


def test_ids_are_found_by_the_text() -> None:
    answers = AnswerIds(1000)
    answers.remember("me", [7], "one", [1, 2])
    answers.remember("me", [7], "two", [3])
    assert answers.ids("me", [7], "one") == [1, 2]
    assert answers.ids("me", [7], "three") is None


@pytest.mark.parametrize(
    ("scope", "before"),
    [
        ("you", [7, 8]),
        ("", [7, 8]),
        ("me", []),
        ("me", [7]),
        ("me", [8, 7]),
        ("me", [7, 8, 8]),
        ("me", [78]),
    ],
)
def test_ids_are_found_in_the_same_conversation_alone(scope: str, before: list[int]) -> None:
    answers = AnswerIds(1000)
    answers.remember("me", [7, 8], "one", [1, 2])
    assert answers.ids(scope, before, "one") is None
    answers.remember(scope, before, "one", [3])  # of which the first one knows nothing
    assert answers.ids(scope, before, "one") == [3]
    assert answers.ids("me", [7, 8], "one") == [1, 2]


def test_the_last_ids_of_a_text_count() -> None:
    answers = AnswerIds(most_tokens=4)
    answers.remember("me", [], "one", [1, 2, 3])
    answers.remember("me", [], "one", [4, 5])
    answers.remember("me", [], "two", [6, 7])
    assert answers.ids("me", [], "one") == [4, 5]


def test_the_oldest_go_when_there_are_too_many() -> None:
    answers = AnswerIds(most_tokens=4)
    for text in ("one", "two", "three"):
        answers.remember("me", [], text, [1, 2])
    found = [answers.ids("me", [], text) for text in ("one", "two", "three")]
    assert found == [None, [1, 2], [1, 2]]


def test_an_answer_that_is_larger_than_all_room_is_not_kept() -> None:
    answers = AnswerIds(most_tokens=2)
    answers.remember("me", [], "one", [1])
    answers.remember("me", [], "two", [1, 2, 3])
    assert answers.ids("me", [], "two") is None
    answers.remember("me", [], "one", [1, 2])
    assert answers.ids("me", [], "one") == [1, 2]


few = st.integers(0, 1)
places = st.tuples(st.sampled_from(["a", "b"]), st.lists(few, max_size=2), st.sampled_from("xy"))


@given(st.lists(st.tuples(places, st.lists(few, max_size=3)), max_size=30))
def test_what_is_found_is_what_was_remembered_there_last(
    said: list[tuple[tuple[str, list[int], str], list[int]]],
) -> None:
    most = 6
    answers = AnswerIds(most)
    known: dict[tuple[str, tuple[int, ...], str], list[int]] = {}
    for (scope, before, text), ids in said:
        answers.remember(scope, before, text, ids)
        key = (scope, tuple(before), text)
        known.pop(key, None)
        known[key] = ids
        while sum(map(len, known.values())) > most:
            known.pop(next(iter(known)))
        for scope_ in ("a", "b"):
            for before_ in ([], [0], [1], [0, 0], [0, 1], [1, 0], [1, 1]):
                for text_ in ("x", "y"):
                    expected = known.get((scope_, tuple(before_), text_))
                    assert answers.ids(scope_, before_, text_) == expected
