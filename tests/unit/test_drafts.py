"""Drafts: what is guessed, how much of it, and that a text without repetition gets none."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sheily_server.engine.drafts import (
    FIRST_LENGTH,
    FIRST_PREDICTED_LENGTH,
    MOST,
    MOST_PAUSE,
    Drafter,
)


def follow(drafter: Drafter, text: list[int], limit: int = MOST) -> list[int]:
    """The sizes of the drafts while a model says `text`."""
    sizes = []
    place = 0
    while place < len(text):
        draft = drafter.propose(min(limit, len(text) - place - 1))
        n_right = 0
        while n_right < len(draft) and draft[n_right] == text[place + n_right]:
            n_right += 1
        drafter.take(text[place : place + n_right + 1], len(draft))
        sizes.append(len(draft))
        place += n_right + 1
    return sizes


def test_a_repetition_of_the_prompt_is_guessed() -> None:
    copied = list(range(100, 200))
    drafter = Drafter([1, 2, *copied, 3, 4], [], ())
    sizes = follow(drafter, copied)
    assert sizes[:3] == [0, 0, 0]
    assert sizes[3:8] == [2, 4, 8, 16, 32]
    assert drafter.n_accepted == drafter.n_drafted == sum(sizes)
    assert drafter.n_predicted == 0


def test_a_repetition_of_what_was_said_is_guessed_round_and_round() -> None:
    drafter = Drafter([9], [], ())
    sizes = follow(drafter, [1, 2, 3, 4] * 50)
    assert max(sizes) == MOST
    assert len(sizes) < 20


def test_a_prediction_is_guessed_from_its_beginning() -> None:
    text = list(range(500))
    drafter = Drafter([7, 8, 9], text, ())
    sizes = follow(drafter, text)
    assert sizes[:3] == [FIRST_PREDICTED_LENGTH, 2 * FIRST_PREDICTED_LENGTH, MOST]
    assert drafter.n_accepted_predicted == drafter.n_predicted == drafter.n_accepted


def test_a_prediction_goes_on_behind_a_change() -> None:
    text = list(range(200))
    drafter = Drafter([7], text, ())
    changed = [*text[:50], 990, 991, *text[60:]]
    follow(drafter, changed)
    assert drafter.n_accepted_predicted > 170
    assert drafter.n_predicted - drafter.n_accepted_predicted < 64


def test_a_wrong_prediction_is_dropped() -> None:
    drafter = Drafter([7], list(range(1000, 1200)), ())
    sizes = follow(drafter, list(range(200)))
    assert sizes[0] == FIRST_PREDICTED_LENGTH
    assert sum(sizes) == FIRST_PREDICTED_LENGTH


def test_random_text_is_hardly_ever_guessed_at() -> None:
    # 12 words make many n-grams that come again, and go on in another way.
    generator = random.Random(1)
    text = [generator.randrange(12) for _ in range(4000)]
    drafter = Drafter(text[:500], [], ())
    follow(drafter, text[500:])
    assert drafter.n_drafted < 0.2 * 3500
    text = [generator.randrange(100) for _ in range(4000)]
    drafter = Drafter(text[:500], [], ())
    follow(drafter, text[500:])
    assert drafter.n_drafted < 0.01 * 3500


def test_wrong_drafts_are_followed_by_longer_and_longer_pauses() -> None:
    drafter = Drafter([1, 2, 3, 4] * 3, [], ())
    said, gaps, since = 0, [], 0
    for _ in range(1000):
        # The same n-gram each time, and never what it would give.
        drafter.take([1, 2, 3][said % 3 : said % 3 + 1], 0)
        said += 1
        if said % 3:
            continue
        draft = drafter.propose(8)
        since += 1
        if draft:
            drafter.take([77], len(draft))
            gaps.append(since)
            since = 0
    assert gaps == sorted(gaps)
    assert gaps[-1] <= MOST_PAUSE


def test_tokens_that_end_an_answer_are_not_guessed() -> None:
    drafter = Drafter([1, 2, 3, 99, 4, 5], [], {99})
    drafter.take([1], 0)
    drafter.take([2], 0)
    drafter.take([3], 0)
    assert drafter.propose(8) == []
    drafter = Drafter([6], [1, 2, 99, 3], {99})
    assert drafter.propose(8) == [1, 2]


def test_no_more_than_there_is_room_for() -> None:
    drafter = Drafter([6], list(range(100)), ())
    assert drafter.propose(0) == drafter.propose(-3) == []
    assert drafter.propose(5) == [0, 1, 2, 3, 4]


@given(
    st.lists(st.integers(0, 4), min_size=1),
    st.lists(st.integers(0, 4)),
    st.lists(st.integers(0, 4), min_size=1),
)
def test_the_text_is_what_was_said_whatever_was_guessed(
    prompt: list[int], prediction: list[int], text: list[int]
) -> None:
    drafter = Drafter(prompt, prediction, {3})
    sizes = follow(drafter, text)
    assert drafter.n_drafted == sum(sizes)
    assert drafter.n_accepted == len(text) - len(sizes)
    assert 0 <= drafter.n_accepted_predicted <= drafter.n_predicted <= drafter.n_drafted
    assert max(sizes) <= MOST
    assert FIRST_LENGTH <= MOST
