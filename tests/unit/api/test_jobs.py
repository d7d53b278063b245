"""Jobs and the logs of their events: bounds, readers, ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sheily_server.api.jobs import AN_EVENT, MAX_EVENT_BYTES, EventLog, Job, Jobs
from sheily_server.budget import Budget
from sheily_server.errors import InvalidRequestError, QueueFullError
from tests.support.waiting import WAIT, until


def job(id: str = "resp_1", owner: str = "me", log: EventLog | None = None, size: int = 0) -> Job:
    return Job(id, owner, b"{}", b"[]", log, size)


def left(budget: Budget) -> int:
    """The bytes that are left, found by taking them one by one."""
    n = 0
    while budget.take(1):
        n += 1
    budget.give_back(n)
    return n


# Logs


def test_readers_get_every_event_once_wherever_they_begin() -> None:
    log = EventLog(Budget(10_000))
    found: dict[int, list[bytes]] = {}

    def read(begin: int) -> None:
        mine: list[bytes] = []
        over = False
        while not over:
            events, over = log.after(begin + len(mine), WAIT)
            mine += events
        found[begin] = mine

    threads = [threading.Thread(target=read, args=(begin,), daemon=True) for begin in range(6)]
    for thread in threads:
        thread.start()
    events = [b"%d" % i for i in range(5)]
    assert all(log.add(event) for event in events)
    log.end(b"last")
    for thread in threads:
        thread.join(WAIT)
    assert found == {begin: [*events, b"last"][begin:] for begin in range(6)}


def test_a_log_without_news_says_so() -> None:
    log = EventLog(Budget(1000))
    assert log.after(0, 0) == ([], False)
    log.add(b"a")
    assert log.after(1, 0) == ([], False)
    log.end()
    assert log.after(1, WAIT) == ([], True)
    assert log.all() == ([b"a"], True)


def test_after_its_end_a_log_takes_nothing() -> None:
    log = EventLog(Budget(1000))
    log.end(b"last")
    assert not log.add(b"more")
    log.end(b"more")
    assert log.all() == ([b"last"], True)


def test_a_log_is_bounded_by_itself_and_by_what_all_may_hold() -> None:
    an_event = AN_EVENT + 10
    budget = Budget(5 * an_event)
    first, second = EventLog(budget, 3 * an_event), EventLog(budget, 3 * an_event)
    assert [first.add(b"x" * 10) for _ in range(4)] == [True] * 3 + [False]
    assert [second.add(b"x" * 10) for _ in range(3)] == [True] * 2 + [False]
    assert len(second) == 2
    first.release()
    first.release()
    assert left(budget) == 3 * an_event
    assert second.add(b"x" * 10)


# Jobs


def test_a_job_is_found_by_its_owner_alone() -> None:
    jobs = Jobs(1, Budget(0))
    mine = job()
    jobs.add(mine)
    assert jobs.find("resp_1", "me") is mine
    assert jobs.find("resp_1", "") is None
    assert jobs.find("resp_2", "me") is None
    jobs.forget(mine)
    assert jobs.find("resp_1", "me") is None


def test_so_many_run_and_the_next_is_refused() -> None:
    jobs, gate = Jobs(2, Budget(0)), threading.Event()
    for i in range(2):
        jobs.start(job(f"resp_{i}"), lambda: (gate.wait(WAIT), None)[1])
    assert jobs.running == 2
    with pytest.raises(QueueFullError):
        jobs.check_room()
    with pytest.raises(QueueFullError):
        jobs.start(job("resp_2"), lambda: None)
    assert jobs.find("resp_2", "me") is None
    assert not jobs.wait(0)
    gate.set()
    assert jobs.wait(WAIT)
    assert jobs.running == 0
    jobs.check_room()


def test_a_job_that_fails_ends_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    jobs, log = Jobs(1, Budget(1000)), EventLog(Budget(1000))
    mine = job(log=log)

    def fail() -> None:
        raise RuntimeError("an error of ours")

    jobs.start(mine, fail)
    assert mine.ended.wait(WAIT)
    assert log.all() == ([], True)
    assert jobs.running == 0
    assert "resp_1 failed" in caplog.text


def test_what_a_job_holds_is_given_back_at_its_end() -> None:
    budget = Budget(1000)
    jobs, gate = Jobs(2, budget), threading.Event()
    log = EventLog(budget)
    first = job(log=log, size=600)

    def work() -> None:
        log.add(b"x" * 10)
        gate.wait(WAIT)

    jobs.start(first, work)
    until(lambda: len(log))
    with pytest.raises(QueueFullError):
        jobs.start(job("resp_2", size=400), lambda: None)
    gate.set()
    assert first.ended.wait(WAIT)
    assert left(budget) == 1000


def test_what_could_not_be_stored_is_kept_for_a_while() -> None:
    budget = Budget(10_000)
    jobs, made = Jobs(2, budget), list[Job]()
    for i in range(3):
        log = EventLog(budget)
        log.add(b"x")
        made.append(job(f"resp_{i}", log=log))
        made[i].kept = False
        jobs.start(made[i], lambda: None)
        assert made[i].ended.wait(WAIT)
    assert [jobs.find(each.id, "me") is not None for each in made] == [False, True, True]
    assert left(budget) == 10_000 - 2 * (AN_EVENT + 1)
    jobs.forget(made[2])
    assert left(budget) == 10_000 - (AN_EVENT + 1)


def test_what_could_not_be_stored_leaves_room_for_others() -> None:
    """Where the disk is full, every stream is lost."""
    budget = Budget(3 * MAX_EVENT_BYTES)
    jobs, large = Jobs(8, budget), b"x" * (MAX_EVENT_BYTES // 2 - AN_EVENT)
    made: list[Job] = []
    for i in range(6):
        log = EventLog(budget)
        assert log.add(large)
        made.append(job(f"resp_{i}", log=log, size=MAX_EVENT_BYTES))
        made[i].kept = False
        jobs.start(made[i], lambda: None)
        assert made[i].ended.wait(WAIT)
    assert [jobs.find(each.id, "me") is not None for each in made] == [False] * 4 + [True] * 2


def test_an_erased_job_is_not_kept() -> None:
    jobs = Jobs(2, Budget(0))
    mine = job()
    mine.kept, mine.erased = False, True
    jobs.start(mine, lambda: None)
    assert mine.ended.wait(WAIT)
    assert jobs.find("resp_1", "me") is None


def test_no_thread_for_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(2, Budget(10))

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(QueueFullError):
        jobs.start(job(size=10), lambda: None)
    assert (jobs.running, jobs.find("resp_1", "me")) == (0, None)
    assert left(jobs.budget) == 10


def test_so_many_come_back() -> None:
    jobs = Jobs(1, Budget(0))
    jobs.begin_reading()
    with pytest.raises(QueueFullError):
        jobs.begin_reading()
    jobs.end_reading()
    jobs.begin_reading()


def test_none_may_run() -> None:
    with pytest.raises(InvalidRequestError, match="LLM_BACKGROUND"):
        Jobs(0, Budget(0)).check_room()


def test_the_last_places_are_for_clients_that_have_none() -> None:
    jobs, gate = Jobs(8, Budget(0)), threading.Event()
    flood, person = ("", "flood", ""), ("", "person", "")
    for i in range(6):
        jobs.start(job(f"resp_{i}"), lambda: (gate.wait(WAIT), None)[1], flood)
    with pytest.raises(QueueFullError):
        jobs.check_room(flood)
    jobs.check_room(person)
    jobs.start(job("resp_6"), lambda: (gate.wait(WAIT), None)[1], person)
    with pytest.raises(QueueFullError):
        jobs.start(job("resp_7"), lambda: None, person)
    gate.set()
    assert jobs.wait(WAIT)
    jobs.check_room(flood)
