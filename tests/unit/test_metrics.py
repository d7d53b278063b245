"""How fast tokens come now; tests/server/test_metrics.py has what Prometheus reads."""

from __future__ import annotations

from sheily_server.metrics import RATE_S, Rate


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.value() == 0
    for _ in range(10 * int(RATE_S)):
        rate.add(2)
        clock.now += 0.1
    assert rate.value() == 20
    clock.now += RATE_S + 1
    assert rate.value() == 0


def test_a_rate_begins_with_the_first_token() -> None:
    clock = Clock()
    rate = Rate(clock)
    rate.add(5)
    assert rate.value() == 5  # not 5 in no time
    clock.now += 2
    rate.add(5)
    assert rate.value() == 5
