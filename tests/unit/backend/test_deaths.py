"""Which deaths of the engine count, and what follows from them."""

from __future__ import annotations

import pytest

from sheily_server.backend.deaths import BACKOFF_S, MOST_OWN_BACKOFF, Deaths


def died(deaths: Deaths, n: int = 1, **fields: bool) -> list[bool]:
    known = {"by_itself": False, "alone": False, "convicted": False} | fields
    return [deaths.died(**known) for _ in range(n)]


def test_the_waits_become_longer_and_have_an_end() -> None:
    deaths = Deaths()
    waits = []
    while not deaths.too_many:
        waits.append(deaths.backoff_s)
        died(deaths)
    assert waits == [BACKOFF_S[0], *BACKOFF_S[:-1]]
    assert deaths.count == deaths.in_row == len(BACKOFF_S)


def test_an_answer_begins_the_row_anew() -> None:
    deaths = Deaths()
    died(deaths, len(BACKOFF_S) - 1)
    deaths.answered()
    assert (deaths.in_row, deaths.backoff_s, deaths.too_many) == (0, BACKOFF_S[0], False)
    died(deaths)
    assert (deaths.in_row, deaths.count) == (1, len(BACKOFF_S))


def test_after_two_deaths_of_its_own_it_is_time_to_be_wary_and_said_once() -> None:
    deaths = Deaths()
    assert died(deaths, 3, by_itself=True) == [False, True, False]
    assert died(deaths) == [False]
    deaths.answered()
    assert died(deaths, 2, by_itself=True) == [False, True]


def test_a_kill_from_outside_says_it_no_second_time() -> None:
    deaths = Deaths()
    assert died(deaths, 2, by_itself=True) == [False, True]
    assert died(deaths) == [False]


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("convicted", [False, True])
def test_the_death_of_one_alone_counts_for_an_engine_that_never_answered(
    answered: bool, convicted: bool
) -> None:
    deaths = Deaths()
    if answered:
        deaths.answered()
    died(deaths, 10, by_itself=True, alone=True, convicted=convicted)
    assert deaths.in_row == (0 if answered or convicted else 10)
    if answered:
        assert deaths.backoff_s == BACKOFF_S[MOST_OWN_BACKOFF - 1]
