"""The ids of answers, found by their text."""

from __future__ import annotations

from sheily_server.engine.answers import Answers


def test_ids_are_found_by_the_text() -> None:
    answers = Answers(1000)
    answers.remember("one", [1, 2])
    answers.remember("two", [3])
    assert answers.ids("one") == [1, 2]
    assert answers.ids("three") is None


def test_the_last_ids_of_a_text_count() -> None:
    answers = Answers(most_tokens=4)
    answers.remember("one", [1, 2, 3])
    answers.remember("one", [4, 5])
    answers.remember("two", [6, 7])
    assert answers.ids("one") == [4, 5]


def test_the_oldest_go_when_there_are_too_many() -> None:
    answers = Answers(most_tokens=4)
    for text in ("one", "two", "three"):
        answers.remember(text, [1, 2])
    assert [answers.ids(text) for text in ("one", "two", "three")] == [None, [1, 2], [1, 2]]
