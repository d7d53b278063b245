"""Drafts: what is guessed, how much of it, and that a text without repetition gets none."""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from sheily_server.engine.scheduling.drafts import MOST, N_GRAM, Drafter, Index

Cost = Callable[[int], float]


def cheap(n: int) -> float:
    return 0.05 * n


def dear(n: int) -> float:
    return 0.5 * n


def drafter_of(
    prompt: list[int], prediction: list[int] | None = None, ends: Container[int] = ()
) -> Drafter:
    return Drafter(Index(prompt), Index(prediction or []), ends)


@dataclass
class Drafted:
    """The sizes of the drafts while a text was said, and how many of their tokens were right."""

    sizes: list[int] = field(default_factory=list)
    n_accepted: int = 0
    n_predicted: int = 0
    n_accepted_predicted: int = 0


def follow(drafter: Drafter, text: list[int], cost: Cost = cheap) -> Drafted:
    """What is drafted while a model says `text`."""
    drafted = Drafted()
    place = 0
    while place < len(text):
        draft = drafter.propose(len(text) - place - 1, cost)
        n_right = 0
        while n_right < len(draft) and draft[n_right] == text[place + n_right]:
            n_right += 1
        drafted.sizes.append(len(draft))
        drafted.n_accepted += n_right
        if drafter.from_prediction:
            drafted.n_predicted += len(draft)
            drafted.n_accepted_predicted += n_right
        drafter.take(text[place : place + n_right + 1])
        place += n_right + 1
    return drafted


def seconds(sizes: list[int], cost: Cost) -> float:
    """How long the steps take, in ordinary ones."""
    return sum(1 + cost(size) for size in sizes)


def test_a_repetition_of_the_prompt_is_guessed() -> None:
    copied = list(range(100, 300))
    drafted = follow(drafter_of([1, 2, *copied, 3, 4]), copied)
    assert drafted.sizes[:3] == [0, 0, 0]
    assert drafted.sizes[3] >= 1
    assert max(drafted.sizes) > 30
    assert seconds(drafted.sizes, cheap) < 200 / 6
    assert drafted.n_accepted == sum(drafted.sizes)
    assert drafted.n_predicted == 0


def test_a_repetition_of_what_was_said_is_guessed_round_and_round() -> None:
    drafted = follow(drafter_of([9]), [1, 2, 3, 4] * 100)
    assert seconds(drafted.sizes, cheap) < 400 / 6


def test_where_a_draft_is_dear_only_a_long_repetition_is_guessed() -> None:
    copied = list(range(100, 300))
    drafted = follow(drafter_of([1, *copied, 2]), copied, dear)
    assert drafted.sizes[:4] == [0] * 4
    assert seconds(drafted.sizes, dear) < 0.75 * 200


def test_a_prediction_is_guessed_from_its_beginning() -> None:
    text = list(range(500))
    drafted = follow(drafter_of([7, 8, 9], text), text)
    assert drafted.sizes[0] > 8
    assert max(drafted.sizes) == MOST
    assert seconds(drafted.sizes, cheap) < 500 / 9
    assert drafted.n_accepted_predicted == drafted.n_predicted == drafted.n_accepted


def test_a_prediction_goes_on_behind_a_change() -> None:
    text = list(range(200))
    drafted = follow(drafter_of([7], text), [*text[:50], 990, 991, *text[60:]])
    assert drafted.n_accepted_predicted > 150
    assert drafted.n_predicted - drafted.n_accepted_predicted < MOST


def test_a_wrong_prediction_costs_one_draft() -> None:
    drafted = follow(drafter_of([7], list(range(1000, 1200))), list(range(200)))
    assert drafted.sizes[0] > 8
    assert sum(drafted.sizes) == drafted.sizes[0]
    assert drafted.n_predicted == drafted.sizes[0]
    assert drafted.n_accepted_predicted == 0


def test_random_text_is_not_slowed_down() -> None:
    # 12 words make many n-grams that come again, and go on in another way.
    for n_words in (12, 40, 1000):
        for cost in (cheap, dear):
            generator = random.Random(1)
            text = [generator.randrange(n_words) for _ in range(4000)]
            drafted = follow(drafter_of(text[:500]), text[500:], cost)
            assert seconds(drafted.sizes, cost) < 1.01 * 3500


def test_beside_other_streams_a_draft_must_be_worth_their_time_too() -> None:
    drafter = drafter_of([1, 2, 3, 4, 5, 1, 2])
    drafter.take([3])
    assert drafter.propose(8, cheap)
    assert not drafter.propose(8, lambda n: 0.1 * n, n_streams=8)


def test_tokens_that_end_an_answer_are_not_guessed() -> None:
    drafter = drafter_of([1, 2, 3, 99, 4, 5], ends={99})
    drafter.take([1, 2, 3])
    assert drafter.propose(8, cheap) == []
    assert drafter_of([6], [1, 2, 99, 3], {99}).propose(8, cheap) == [1, 2]


def test_no_more_than_there_is_room_for() -> None:
    drafter = drafter_of([6], list(range(100)))
    assert drafter.propose(0, cheap) == drafter.propose(-3, cheap) == []
    assert drafter.propose(5, cheap) == [0, 1, 2, 3, 4]


def test_each_of_several_answers_drafts_for_itself() -> None:
    """The texts are there once for all choices of a request."""
    prompt, prediction = Index([1, 2, 3, 4, 1, 2]), Index([7, 8, 9])
    first, second = Drafter(prompt, prediction, ()), Drafter(prompt, prediction, ())
    first.take([7, 8, 9, 5, 6, 5, 6, 5])
    assert first.propose(3, cheap) == [6, 5, 6]
    assert second.propose(8, cheap) == [7, 8, 9]
    second.take([3])
    assert second.propose(2, cheap) == [4, 1]


def test_what_was_said_before_the_drafter_came_counts() -> None:
    """Of a long text the index comes when the answer has begun."""
    late = drafter_of([6], list(range(100)))
    late.take([0, 1, 2])
    assert late.propose(3, cheap) == [3, 4, 5]


ids = st.integers(0, 3) | st.sampled_from([2**21 - 1, 2**20, 2**21 - 2])


@given(st.lists(ids, max_size=40), st.lists(ids, max_size=N_GRAM))
def test_a_place_is_the_last_one_that_has_the_same_tokens_before_it(
    text: list[int], last: list[int]
) -> None:
    index = Index(text)
    for wanted in (last, *(text[i : i + N_GRAM] for i in range(len(text)))):
        places = [end for end in range(N_GRAM, len(text)) if text[end - N_GRAM : end] == wanted]
        expected = places[-1] if places else None
        assert index.behind(wanted) == expected


@given(
    st.lists(st.integers(0, 4), min_size=1),
    st.lists(st.integers(0, 4)),
    st.lists(st.integers(0, 4), min_size=1),
)
def test_the_text_is_what_was_said_whatever_was_guessed(
    prompt: list[int], prediction: list[int], text: list[int]
) -> None:
    drafted = follow(drafter_of(prompt, prediction, {3}), text)
    assert drafted.n_accepted == len(text) - len(drafted.sizes)
    assert 0 <= drafted.n_accepted_predicted <= drafted.n_predicted <= sum(drafted.sizes)
    assert max(drafted.sizes) <= MOST
