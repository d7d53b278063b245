"""Drafts: what is guessed, how much of it, and that a text without repetition gets none."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from sheily_server.engine.drafts import MOST, Drafter

Cost = Callable[[int], float]


def cheap(n: int) -> float:
    return 0.05 * n


def dear(n: int) -> float:
    return 0.5 * n


def follow(drafter: Drafter, text: list[int], cost: Cost = cheap) -> list[int]:
    """The sizes of the drafts while a model says `text`."""
    sizes = []
    place = 0
    while place < len(text):
        draft = drafter.propose(len(text) - place - 1, cost)
        n_right = 0
        while n_right < len(draft) and draft[n_right] == text[place + n_right]:
            n_right += 1
        drafter.take(text[place : place + n_right + 1], len(draft))
        sizes.append(len(draft))
        place += n_right + 1
    return sizes


def seconds(sizes: list[int], cost: Cost) -> float:
    """How long the steps take, in ordinary ones."""
    return sum(1 + cost(size) for size in sizes)


def test_a_repetition_of_the_prompt_is_guessed() -> None:
    copied = list(range(100, 300))
    drafter = Drafter([1, 2, *copied, 3, 4], [], ())
    sizes = follow(drafter, copied)
    assert sizes[:3] == [0, 0, 0]
    assert sizes[3] >= 1
    assert max(sizes) > 30
    assert seconds(sizes, cheap) < 200 / 6
    assert drafter.n_accepted == drafter.n_drafted == sum(sizes)
    assert drafter.n_predicted == 0


def test_a_repetition_of_what_was_said_is_guessed_round_and_round() -> None:
    sizes = follow(Drafter([9], [], ()), [1, 2, 3, 4] * 100)
    assert seconds(sizes, cheap) < 400 / 6


def test_where_a_draft_is_dear_only_a_long_repetition_is_guessed() -> None:
    copied = list(range(100, 300))
    sizes = follow(Drafter([1, *copied, 2], [], ()), copied, dear)
    assert sizes[:4] == [0] * 4
    assert seconds(sizes, dear) < 0.75 * 200


def test_a_prediction_is_guessed_from_its_beginning() -> None:
    text = list(range(500))
    drafter = Drafter([7, 8, 9], text, ())
    sizes = follow(drafter, text)
    assert sizes[0] > 8
    assert max(sizes) == MOST
    assert seconds(sizes, cheap) < 500 / 9
    assert drafter.n_accepted_predicted == drafter.n_predicted == drafter.n_accepted


def test_a_prediction_goes_on_behind_a_change() -> None:
    text = list(range(200))
    drafter = Drafter([7], text, ())
    follow(drafter, [*text[:50], 990, 991, *text[60:]])
    assert drafter.n_accepted_predicted > 150
    assert drafter.n_predicted - drafter.n_accepted_predicted < MOST


def test_a_wrong_prediction_costs_one_draft() -> None:
    drafter = Drafter([7], list(range(1000, 1200)), ())
    sizes = follow(drafter, list(range(200)))
    assert sizes[0] > 8
    assert sum(sizes) == sizes[0]
    assert drafter.n_predicted == sizes[0]
    assert drafter.n_accepted_predicted == 0


def test_random_text_is_not_slowed_down() -> None:
    # 12 words make many n-grams that come again, and go on in another way.
    for n_words in (12, 40, 1000):
        for cost in (cheap, dear):
            generator = random.Random(1)
            text = [generator.randrange(n_words) for _ in range(4000)]
            sizes = follow(Drafter(text[:500], [], ()), text[500:], cost)
            assert seconds(sizes, cost) < 1.01 * 3500


def test_beside_other_streams_a_draft_must_be_worth_their_time_too() -> None:
    drafter = Drafter([1, 2, 3, 4, 5, 1, 2], [], ())
    drafter.take([3], 0)
    assert drafter.propose(8, cheap)
    assert not drafter.propose(8, lambda n: 0.1 * n, n_streams=8)


def test_tokens_that_end_an_answer_are_not_guessed() -> None:
    drafter = Drafter([1, 2, 3, 99, 4, 5], [], {99})
    drafter.take([1], 0)
    drafter.take([2], 0)
    drafter.take([3], 0)
    assert drafter.propose(8, cheap) == []
    drafter = Drafter([6], [1, 2, 99, 3], {99})
    assert drafter.propose(8, cheap) == [1, 2]


def test_no_more_than_there_is_room_for() -> None:
    drafter = Drafter([6], list(range(100)), ())
    assert drafter.propose(0, cheap) == drafter.propose(-3, cheap) == []
    assert drafter.propose(5, cheap) == [0, 1, 2, 3, 4]


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
