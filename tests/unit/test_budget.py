"""The bytes that the bodies of all requests may have together."""

from __future__ import annotations

from sheily_server.budget import Budget


def test_what_is_given_back_can_be_taken_again() -> None:
    budget = Budget(100)
    assert budget.take(60)
    assert not budget.take(41)
    assert budget.take(40)
    assert not budget.take(1)
    budget.give_back(60)
    assert budget.take(60)
