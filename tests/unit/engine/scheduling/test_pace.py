"""How much a step may hold beside running streams, under machines that are made up."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.engine.scheduling.pace import REFRESH, Pace

MOST = 128
SLOWDOWN = 2.0
SLACK = 1.1
"""How much longer than allowed 1 % of the steps may take."""


def run(pace: Pace, seconds: Callable[[int], float], n_steps: int) -> list[int]:
    """How many further tokens each of so many steps beside one stream had."""
    sizes = []
    for _ in range(n_steps):
        n = pace.allowed(1)
        pace.learn(1, n, seconds(n))
        sizes.append(n)
    return sizes


def test_an_ordinary_step_is_measured_first_and_now_and_then() -> None:
    sizes = run(Pace(MOST, SLOWDOWN), lambda n: 0.1 + 0.01 * n, 2 * REFRESH + 3)
    assert [i for i, n in enumerate(sizes) if n == 0] == [0, REFRESH + 1, 2 * REFRESH + 2]


@given(st.floats(1.1, 10), st.floats(0.005, 0.5), st.floats(0.001, 0.2))
def test_no_step_is_longer_than_allowed(slowdown: float, ordinary: float, added: float) -> None:
    def seconds(n: int) -> float:
        return ordinary * (1 + added * n)

    sizes = run(Pace(MOST, slowdown), seconds, 200)
    steps = [seconds(n) for n in sizes]
    # Only the very first guess can be too much, and where a single token is, there is no choice.
    late = steps[4:] if added * 4 > slowdown - 1 else steps
    limit = max(slowdown, 1 + added) * ordinary
    assert sum(step > limit for step in late) == 0
    assert max(sizes) >= min(int((0.95 * slowdown - 1) / added * 0.99), MOST)


@pytest.mark.parametrize("added", [0.02, 0.05, 0.08])
def test_a_prompt_takes_half_the_time_that_a_bound_of_1_3_leaves_it(added: float) -> None:
    """On a machine whose steps vary, and the gaps stay within the bound."""

    def prompt(slowdown: float) -> tuple[float, float]:
        pace, random, left, steps = Pace(MOST, slowdown), Random(1), 970, []
        while left > 0:
            n = min(pace.allowed(4), left)
            steps.append((1 + added * n) * max(random.gauss(1, 0.03), 0.9))
            pace.learn(4, n, steps[-1])
            left -= n
        return sum(steps), sorted(steps)[int(0.99 * len(steps))]

    seconds, longest = prompt(SLOWDOWN)
    assert longest <= SLACK * SLOWDOWN
    assert seconds <= prompt(1.3)[0] / 2


def test_where_the_first_tokens_cost_nothing_they_are_used() -> None:
    sizes = run(Pace(MOST, SLOWDOWN), lambda n: max(0.1, 0.01 * n), 100)
    assert max(sizes) <= 10 * SLACK * SLOWDOWN
    assert sizes[-2] >= 17


def test_a_machine_that_becomes_slow_is_noticed() -> None:
    pace = Pace(MOST, SLOWDOWN)
    run(pace, lambda n: 0.1 + 0.01 * n, 100)
    sizes = run(pace, lambda n: 0.2 + 0.01 * n, 3 * REFRESH)
    assert sizes[-1] >= 5


def test_prompts_alone_tell_what_a_prompt_token_takes() -> None:
    pace = Pace(MOST, SLOWDOWN)
    for _ in range(50):
        pace.learn(0, 128, 128 * 0.002)
    assert pace.prompt_token_s == pytest.approx(0.002, rel=0.01)


def test_what_further_tokens_cost_is_learned_by_their_number() -> None:
    pace = Pace(MOST, SLOWDOWN)
    assert pace.cost(1, 4) == pytest.approx(0.4)
    pace.learn(0, 100, 100 * 0.003)
    for _ in range(40):
        pace.learn(0, 100, 100 * 0.003)
        pace.learn(1, 0, 0.01)
        pace.learn(1, 1, 0.015)
    assert pace.cost(1, 1) == pytest.approx(0.5)
    assert pace.cost(1, 8) == pytest.approx(8 * 0.3, rel=0.01)  # as of a prompt, till it is tried
    for _ in range(40):
        pace.learn(1, 8, 0.05)
    assert pace.cost(1, 8) == pytest.approx(4.0, rel=0.01)
    assert pace.cost(1, 1) == pytest.approx(0.5)
    assert pace.cost(2, 1) == pytest.approx(0.1)  # nothing is known of two streams
