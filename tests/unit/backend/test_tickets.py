"""Who runs, who waits, who is refused; and whose an event is."""

from __future__ import annotations

import contextlib
import threading

import pytest

from sheily_server.backend.tickets import Counts, Ticket, Tickets
from sheily_server.errors import ServiceError
from sheily_server.protocol.events import (
    Admitted,
    ChoiceFinished,
    Finished,
    RequestFailed,
    Started,
    TooLong,
)
from sheily_server.web.errors import kind


def finished(id: int) -> Finished:
    return Finished(
        id=id,
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=1,
        queued_s=0.0,
        prefill_s=0.1,
        decode_s=0.2,
    )


def opened(tickets: Tickets, n: int) -> list[Ticket]:
    return [tickets.open(lambda id: None) for _ in range(n)]


def test_the_table_is_bounded() -> None:
    tickets = Tickets(parallel=2, queue=3)
    first, *_ = opened(tickets, 5)
    assert len(tickets) == 5
    for refusing in (tickets.check_room, lambda: tickets.open(lambda id: None)):
        with pytest.raises(ServiceError) as caught:
            refusing()
        assert kind(caught.value).status == 429
    assert tickets.close(first.id)
    assert not tickets.close(first.id)
    tickets.check_room()
    assert opened(tickets, 1)[0].id == 6


def test_never_more_than_configured_from_many_threads() -> None:
    tickets = Tickets(parallel=2, queue=3)
    taken: list[Ticket] = []

    def take() -> None:
        for _ in range(200):
            with contextlib.suppress(ServiceError):
                taken.append(tickets.open(lambda id: None))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 5
    assert len(tickets) == 5


def test_events_go_to_their_ticket_until_the_last() -> None:
    tickets = Tickets(parallel=2, queue=0)
    one, other = opened(tickets, 2)
    assert tickets.deliver(ChoiceFinished(id=one.id, choice=0, reason="stop", timed_out=False))
    assert tickets.deliver(finished(one.id))
    assert len(tickets) == 1
    assert not tickets.deliver(finished(one.id))
    assert isinstance(one.next(0), ChoiceFinished)
    assert isinstance(one.next(0), Finished)
    assert one.next(0) is None
    assert other.next(0) is None
    assert tickets.deliver(RequestFailed(other.id, "engine_error", "no"))
    assert not tickets


def test_who_runs_is_who_has_a_slot() -> None:
    """However many there would be room for: the engine says who has one."""
    tickets = Tickets(parallel=4, queue=4)
    two = tickets.open(lambda id: None, choices=2)
    asks = tickets.open(lambda id: None, choices=0)  # for tokens: it never has a slot
    tickets.deliver(Admitted(two.id, 5))
    assert tickets.count() == Counts(running=0, queued=2, answers_running=0, answers_queued=2)
    tickets.deliver(Started(two.id, 1))
    assert tickets.count() == Counts(running=1, queued=1, answers_running=1, answers_queued=1)
    tickets.deliver(Started(two.id, 0))
    assert tickets.count() == Counts(running=1, queued=1, answers_running=2, answers_queued=0)
    tickets.deliver(ChoiceFinished(id=two.id, choice=1, reason="stop", timed_out=False))
    assert tickets.count() == Counts(running=1, queued=1, answers_running=1, answers_queued=0)
    tickets.deliver(finished(two.id))
    assert tickets.count() == Counts(running=0, queued=1, answers_running=0, answers_queued=0)
    assert isinstance(two.next(0), Admitted)
    assert isinstance(two.next(0), ChoiceFinished)  # Started is no event of an answer
    tickets.close(asks.id)
    assert tickets.count() == Counts(running=0, queued=0, answers_running=0, answers_queued=0)


def test_a_request_that_may_trim_keeps_its_place() -> None:
    tickets = Tickets(parallel=1, queue=0)
    ticket = tickets.open(lambda id: None, trims=True)
    for _ in range(2):
        assert tickets.deliver(TooLong(id=ticket.id, prompt_tokens=9, room=1))
        assert isinstance(ticket.next(0), TooLong)
        with pytest.raises(ServiceError):
            tickets.check_room()
    assert tickets.deliver(finished(ticket.id))
    other = tickets.open(lambda id: None)
    assert tickets.deliver(TooLong(id=other.id, prompt_tokens=9, room=1))
    assert not tickets


def test_all_are_closed_at_once() -> None:
    tickets = Tickets(parallel=2, queue=1)
    three = opened(tickets, 3)
    assert tickets.close_all() == three
    assert not tickets
    assert not tickets.deliver(finished(three[0].id))


def test_a_ticket_is_cancelled_by_its_id() -> None:
    cancelled: list[int] = []
    ticket = Tickets(parallel=1, queue=0).open(cancelled.append)
    ticket.cancel()
    assert cancelled == [ticket.id]


def test_retry_after_follows_how_long_requests_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("sheily_server.backend.tickets.time.monotonic", lambda: now)
    tickets = Tickets(parallel=1, queue=1)

    def retry_after() -> int | None:
        opened(tickets, 2)
        with pytest.raises(ServiceError) as caught:
            tickets.check_room()
        tickets.close_all()
        return caught.value.retry_after

    assert retry_after() == 2
    for _ in range(30):
        (ticket,) = opened(tickets, 1)
        now += 10.0
        tickets.deliver(finished(ticket.id))
    assert retry_after() == 20
    for _ in range(30):
        (ticket,) = opened(tickets, 1)
        now += 1000.0
        tickets.deliver(finished(ticket.id))
    assert retry_after() == 60


def test_the_place_in_the_queue() -> None:
    tickets = Tickets(parallel=2, queue=3)
    first, second, third = opened(tickets, 3)
    assert [tickets.queue_place(ticket.id) for ticket in (first, second, third)] == [1, 2, 3]
    tickets.deliver(Started(second.id, 0))
    assert [tickets.queue_place(ticket.id) for ticket in (first, second, third)] == [1, None, 2]
    tickets.close(first.id)
    assert [tickets.queue_place(ticket.id) for ticket in (first, third)] == [None, 1]


def test_the_newest_of_the_client_with_most_gives_way() -> None:
    shed: list[int] = []
    tickets = Tickets(parallel=1, queue=4, shed=shed.append)
    flood = [tickets.open(lambda id: None, client=("", "flood", f"u{i}")) for i in range(5)]
    tickets.deliver(Started(flood[4].id, 0))  # what runs is not taken away
    tickets.check_room(("", "person"))
    person = tickets.open(lambda id: None, client=("", "person", ""))
    assert shed == [flood[3].id]
    with pytest.raises(ServiceError) as caught:
        flood[3].next(0)
    assert kind(caught.value).status == 429
    assert caught.value.retry_after is not None
    assert not tickets.deliver(finished(flood[3].id))
    assert person.next(0) is None
    assert len(tickets) == 5


def test_who_has_as_many_as_the_others_is_refused() -> None:
    tickets = Tickets(parallel=1, queue=3)
    for name in ("one", "other") * 2:
        tickets.open(lambda id: None, client=("", name, ""))
    with pytest.raises(ServiceError):
        tickets.open(lambda id: None, client=("", "one", ""))
    with pytest.raises(ServiceError):
        tickets.check_room(("", "one", ""))
    tickets.check_room(("", "one"))  # another user of it may have none
    assert tickets.open(lambda id: None, client=("", "one", "new"))


def test_without_a_queue_nobody_gives_way() -> None:
    """Those who have a place and have not started are about to."""
    tickets = Tickets(parallel=2, queue=0)
    for _ in range(2):
        tickets.open(lambda id: None, client=("", "flood", ""))
    with pytest.raises(ServiceError):
        tickets.open(lambda id: None, client=("", "person", ""))
