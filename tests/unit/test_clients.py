"""Which of several clients has most, and whose request gives way to a newcomer's."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sheily_server.clients import Client, digest, giving_way, having_most, parts

clients = st.tuples(*(st.sampled_from("abc"),) * 3)
queues = st.lists(clients, max_size=24)


def test_parts_are_short_whatever_they_stand_for() -> None:
    long = digest("x" * 1_000_000)
    assert len(long) == len(digest("x")) == 16
    assert long != digest("x" * 999_999)
    assert digest("") == ""
    assert digest("\ud800")  # half a character, as JSON may have it
    assert list(parts(("k", "p", "u"))) == [("k",), ("k", "p"), ("k", "p", "u")]


def test_who_has_most_is_found_from_the_outside() -> None:
    """One key's two peers have more together than the other key's peer, who has most of all."""
    held = [(("k", "p", ""), 5), (("k", "q", "v"), 4), (("k", "q", "w"), 4), (("l", "r", ""), 7)]
    assert having_most(held) == ("k", "q", "w")
    assert having_most([((), 3)]) == ()


@given(queues, clients)
def test_a_client_with_none_waiting_always_has_a_place(waiting: list[Client], one: Client) -> None:
    others = [client for client in waiting if client != one]
    if others:
        assert giving_way(one, others) in others


@given(queues.filter(bool), clients)
def test_who_gives_way_keeps_no_less_than_the_newcomer_gets(
    waiting: list[Client], one: Client
) -> None:
    """At the level where the two part; so two floods never take turns at losing requests."""
    loser = giving_way(one, waiting)
    if loser is None:
        assert one in waiting
        return
    assert loser in waiting
    depth = next(i for i in range(1, 4) if loser[:i] != one[:i])
    counts = Counter(client[:depth] for client in waiting)
    had = counts[one[:depth]]
    assert had == 0 or counts[loser[:depth]] - 1 >= had + 1


def test_invented_users_win_no_place() -> None:
    flood: list[Client] = [("k", "flood", f"user {i}") for i in range(60)]
    person: list[Client] = [("k", "person", "")] * 4
    assert giving_way(("k", "flood", "another user"), person + flood) == flood[-1]
    assert giving_way(("k", "person", ""), person + flood) == flood[-1]
    assert giving_way(("k", "person", "new"), flood + person) == flood[-1]


def test_a_peer_is_told_early_only_what_holds_for_all_of_its_users() -> None:
    waiting: list[Client] = [("k", "p", "u")] * 5
    assert giving_way(("k", "p"), waiting) == ("k", "p", "u")
    assert giving_way(("k", "p", "u"), waiting) is None
    assert giving_way(("k", "p"), []) is None


def test_who_is_not_known_is_one_client() -> None:
    assert giving_way((), [()] * 3) is None
