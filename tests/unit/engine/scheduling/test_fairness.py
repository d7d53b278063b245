"""Who starts next: the client that had least lately, whatever it calls itself."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sheily_server.clients import Client
from sheily_server.engine.scheduling.fairness import HALF_LIFE_S, MOST_KNOWN, Fairness
from sheily_server.engine.scheduling.scheduler import Scheduler
from sheily_server.engine.scheduling.sequence import TokenSequence
from tests.support.fake_cells import FakeModel

FLOOD: Client = ("", "flood", "")
PERSON: Client = ("", "person", "")


def waits(client: Client, id: int = 0) -> TokenSequence:
    return TokenSequence(id, [1, 2, 3], 4, client=client)


def by_id(sequence: TokenSequence) -> float:
    return sequence.id


def nexts(
    fairness: Fairness, *clients: Client, running: tuple[TokenSequence, ...] = (), now: float = 0.0
) -> Client:
    """Whose request is next, of one of each client; the first one's is the most urgent."""
    waiting = [waits(client, id) for id, client in enumerate(clients)]
    return fairness.next(waiting, running, by_id, now).client


def test_who_had_least_is_next_and_urgency_decides_among_equals() -> None:
    fairness = Fairness()
    assert nexts(fairness, FLOOD, PERSON) == FLOOD
    fairness.charge(FLOOD, 20, now=0.0)
    fairness.charge(PERSON, 10, now=0.0)
    assert nexts(fairness, FLOOD, PERSON) == PERSON
    fairness.charge(PERSON, 11, now=0.0)
    assert nexts(fairness, PERSON, FLOOD) == FLOOD
    assert nexts(fairness, (), PERSON) == ()


def test_what_was_long_ago_counts_less_and_at_last_nothing() -> None:
    fairness = Fairness()
    fairness.charge(FLOOD, 100, now=0.0)
    fairness.charge(PERSON, 60, now=HALF_LIFE_S)
    assert nexts(fairness, PERSON, FLOOD, now=HALF_LIFE_S) == FLOOD
    assert nexts(fairness, FLOOD, ("", "new", ""), now=6 * HALF_LIFE_S) == ("", "new", "")
    assert nexts(fairness, FLOOD, ("", "new", ""), now=7 * HALF_LIFE_S) == FLOOD


def test_prompts_that_are_being_computed_count_before_they_are() -> None:
    """Else all free slots would be one client's, as long as no step has charged it."""
    running = waits(FLOOD)
    running.slot = 0
    assert nexts(Fairness(), FLOOD, PERSON, running=(running,)) == PERSON


def test_a_thousand_invented_users_win_nothing() -> None:
    fairness = Fairness()
    fairness.charge(PERSON, 500, now=0.0)
    for i in range(1000):
        fairness.charge(("", "flood", f"user {i}"), 1, now=0.0)
    assert nexts(fairness, ("", "flood", "another"), PERSON) == PERSON
    assert nexts(fairness, ("", "flood", "another"), ("", "flood", "user 1")) == (
        "",
        "flood",
        "another",
    )


def test_a_key_with_many_peers_has_one_part() -> None:
    fairness = Fairness()
    fairness.charge(("one", "p", ""), 50, now=0.0)
    fairness.charge(("one", "q", ""), 50, now=0.0)
    fairness.charge(("other", "r", ""), 99, now=0.0)
    assert nexts(fairness, ("one", "p", ""), ("other", "r", "")) == ("other", "r", "")


def test_what_is_known_is_bounded_and_who_had_most_stays_known() -> None:
    fairness = Fairness()
    fairness.charge(FLOOD, 1000, now=0.0)
    for i in range(3 * MOST_KNOWN):
        fairness.charge(("", f"peer {i}", ""), 2, now=0.0)
    assert len(fairness._had) <= MOST_KNOWN
    assert nexts(fairness, FLOOD, PERSON) == PERSON


class Server:
    """A scheduler of two slots under a fake model, where each step takes a second."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(n_slots=2, context_size=64, n_sequences=6, chunk=8)
        self._model = FakeModel(128, 6)
        self.started: list[Client] = []
        self.computed: Counter[Client] = Counter()

    def add(self, client: Client, prompt: list[int], max_tokens: int) -> None:
        self.scheduler.add(TokenSequence(0, prompt, max_tokens, client=client))

    def step(self) -> None:
        plan = self.scheduler.schedule()
        if plan is None:
            return
        self.started += [sequence.client for sequence in plan.started]
        for work in plan.work:
            self.computed[work.sequence.client[:2]] += len(work.tokens)
        self.scheduler.commit(plan, self._model.step(plan), 1.0)
        for sequence in [work.sequence for work in plan.work if work.samples]:
            if len(sequence.generated) == sequence.max_tokens:
                self.scheduler.remove(sequence)


@given(st.lists(st.integers(1, 6), min_size=30, max_size=30), st.integers(1, 12))
def test_a_flood_delays_a_person_by_one_turn(lengths: list[int], n_steps: int) -> None:
    """However long it has gone on: the next request that starts is the person's."""
    server = Server()
    for i, length in enumerate(lengths):
        server.add(("", "flood", f"user {i}"), [1 + i % 3, 2, 3], length)
    for _ in range(n_steps):
        server.step()
    before = len(server.started)
    server.add(PERSON, [3, 2, 1] * 10, 4)
    while len(server.started) == before:
        server.step()
    assert PERSON in server.started[before : before + 2]


def test_two_floods_get_the_same_whatever_they_are_called() -> None:
    server = Server()
    for i in range(200):
        server.add(("", "inventive", f"user {i}"), [1, 2, 3, 4], 4)
        server.add(("", "honest", ""), [4, 3, 2, 1], 4)
    for _ in range(150):
        server.step()
    inventive, honest = server.computed["", "inventive"], server.computed["", "honest"]
    assert abs(inventive - honest) <= 16
