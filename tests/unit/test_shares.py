"""What one client may hold of what all requests share."""

from __future__ import annotations

from sheily_server.shares import Shares

FLOOD, PERSON = ("key", "flood"), ("key", "person")


def held(shares: Shares, client: tuple[str, ...]) -> int:
    """How many places a client gets now."""
    return sum(shares.take(client) for _ in range(100))


def test_the_last_places_are_for_those_who_have_none() -> None:
    shares = Shares(10, kept=4)
    assert held(shares, FLOOD) == 6
    assert shares.take(PERSON)
    assert not shares.take(PERSON)


def test_many_peers_of_one_key_leave_some_to_another_key() -> None:
    shares = Shares(10, kept=4)
    assert sum(held(shares, ("key", f"peer {i}")) for i in range(50)) == 8
    assert held(shares, ("other", "peer")) == 1
    assert held(shares, ("third", "peer")) == 1
    assert held(shares, ("fourth", "peer")) == 0


def test_users_too_leave_some_to_their_peer_and_key() -> None:
    shares = Shares(16, kept=6)
    assert held(shares, ("key", "peer", "user")) == 10
    assert sum(held(shares, ("key", "peer", f"user {i}")) for i in range(50)) == 2
    assert sum(held(shares, ("key", f"peer {i}", "user")) for i in range(50)) == 2
    assert shares.has(("other", "peer", "user"), 2)
    assert not shares.has(("other", "peer", "user"), 3)


def test_what_is_given_back_can_be_taken_again() -> None:
    shares = Shares(10, kept=2)
    assert shares.take(FLOOD, 8)
    assert not shares.take(FLOOD)
    assert not shares.unused
    shares.give_back(FLOOD, 8)
    assert shares.unused
    assert shares.take(FLOOD, 10)
    assert not shares.take(PERSON)
    assert not Shares(1, kept=0).take((), 2)
