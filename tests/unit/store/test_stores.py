"""What holds for a store in memory and for one in a file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheily_server.errors import StoreError, StoreFullError
from sheily_server.store.base import A_DAY, SWEEP_S, Record, Store
from sheily_server.store.opening import open_store
from tests.support.records import NOW, failed, noise, record

DAYS = 30


class Clock:
    """The time of a store, moved by hand."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    path = tmp_path / "responses.db" if request.param == "file" else None
    found = open_store(path, days=DAYS, megabytes=16, interrupted=failed, now=clock)
    yield found
    found.close()


def names(store: Store, count: int, owner: str = "anna") -> list[int]:
    """Which of the records 0 to `count` are there."""
    return [n for n in range(count) if store.get(f"resp_{n}", owner)]


def huge(name: str) -> Record:
    """More than the stores here may have."""
    return replace(record(name), body=Random(name).randbytes(17 << 20))


def test_what_was_put_is_there_as_it_was(store: Store) -> None:
    first = record("1", "ñandú €", previous="resp_0", status="incomplete")
    store.put(first)
    store.put(record("2", "another"))
    assert store.get("resp_1", "anna") == first
    assert store.get("resp_3", "anna") is None


def test_a_record_is_replaced(store: Store) -> None:
    store.put(record("1", "first", status="in_progress"))
    last = replace(record("1", "second", previous="resp_9"), created=NOW + 5)
    store.put(last)
    assert store.get("resp_1", "anna") == last
    assert store.delete("resp_1", "anna")
    assert store.get("resp_1", "anna") is None


def test_another_owner_s_records_are_not_there(store: Store) -> None:
    store.put(record("1", "of anna", owner="anna"))
    store.put(record("1", "of bert", owner="bert"))
    store.put(record("1", "of nobody", owner=""))
    for owner in ("carl", "ann", "anna "):
        assert store.get("resp_1", owner) is None
        assert not store.delete("resp_1", owner)
    assert store.delete("resp_1", "bert")
    assert store.get("resp_1", "bert") is None
    assert store.get("resp_1", "anna") == record("1", "of anna", owner="anna")
    assert store.get("resp_1", "") == record("1", "of nobody", owner="")


def test_what_was_deleted_is_gone(store: Store) -> None:
    store.put(record("1"))
    assert store.delete("resp_1", "anna")
    assert store.get("resp_1", "anna") is None
    assert not store.delete("resp_1", "anna")


@pytest.mark.parametrize("id", ["", "resp_ñ", "resp_\ud800", "resp_\0", "' OR 1=1 --", "x" * 9999])
def test_ids_that_are_none(store: Store, id: str) -> None:
    store.put(record("1"))
    assert store.get(id, "anna") is None
    assert not store.delete(id, "anna")


def test_owners(store: Store) -> None:
    first, second = store.owner("scope-1"), store.owner("scope-2")
    assert first == store.owner("scope-1") != second
    assert "scope" not in first
    assert store.owner("") == ""


def test_two_stores_have_owners_of_their_own(tmp_path: Path) -> None:
    paths = [None, None, tmp_path / "a.db", tmp_path / "b.db"]
    found = set()
    for path in paths:
        store = open_store(path, days=1, megabytes=16, interrupted=failed)
        found.add(store.owner("scope"))
        store.close()
    assert len(found) == 4


def test_days(store: Store, clock: Clock) -> None:
    clock.now = NOW - 2 * A_DAY
    store.put(record("0", created=NOW - 2 * A_DAY))
    clock.now = NOW
    store.put(record("1", created=NOW))
    clock.now = NOW + (DAYS - 2) * A_DAY
    assert names(store, 2) == [0, 1]
    clock.now += 1
    assert names(store, 2) == [1]
    clock.now = NOW + DAYS * A_DAY + 1
    assert names(store, 2) == []


def test_one_that_runs_does_not_become_too_old(store: Store, clock: Clock) -> None:
    store.put(record("0", status="in_progress"))
    store.put(record("1", status="queued"))
    clock.now += 2 * DAYS * A_DAY
    store.put(record("2", created=int(clock.now)))
    assert names(store, 3) == [0, 1, 2]


def test_too_old_ones_give_their_room_back(store: Store, clock: Clock) -> None:
    """Ones that run could not push them out: they would not be stored."""
    for n in range(20):
        store.put(record(str(n), noise(n, 200_000)))
    clock.now += DAYS * A_DAY + SWEEP_S + 1
    for n in range(20, 40):
        late = record(str(n), noise(n, 200_000), created=int(clock.now), status="in_progress")
        store.put(late)
    assert names(store, 40) == list(range(20, 40))


def test_the_oldest_finished_ones_give_way(store: Store) -> None:
    store.put(record("0", status="in_progress"))
    count = 100
    for n in range(1, count):
        store.put(record(str(n), noise(n, 150_000), created=NOW + n))
    kept = names(store, count)
    assert kept[0] == 0
    assert kept[1:] == list(range(kept[1], count))
    assert 10 < len(kept) < count - 10


def test_where_all_run_none_gives_way(store: Store) -> None:
    def put_all() -> None:
        for n in range(200):
            store.put(record(str(n), noise(n, 200_000), status="in_progress"))

    with pytest.raises(StoreFullError, match="LLM_STORE_MB allows 16 MiB"):
        put_all()
    stored = len(names(store, 200))
    assert stored > 10
    assert names(store, 200) == list(range(stored))
    store.put(record("0", status="completed"))
    assert store.get("resp_0", "anna") == record("0", status="completed")


def test_what_was_there_stays_where_its_successor_is_not_stored(store: Store) -> None:
    for n in range(40):
        store.put(record(str(n), noise(n, 1_000), status="in_progress"))
    with pytest.raises(StoreFullError, match="LLM_STORE_MB"):
        store.put(huge("3"))
    assert store.get("resp_3", "anna") == record("3", noise(3, 1_000), status="in_progress")
    assert names(store, 40) == list(range(40))


def test_one_that_is_too_large_pushes_nothing_out(store: Store) -> None:
    store.put(record("0"))
    with pytest.raises(StoreFullError):
        store.put(huge("1"))
    assert names(store, 2) == [0]


def test_a_store_that_is_closed(store: Store) -> None:
    store.put(record("0"))
    store.close()
    if store.durable:
        with pytest.raises(StoreError, match="log says why"):
            store.get("resp_0", "anna")
        with pytest.raises(StoreError, match="log says why"):
            store.delete("resp_0", "anna")
        with pytest.raises(StoreFullError, match="cannot be written"):
            store.put(record("1"))
    else:
        assert store.get("resp_0", "anna") is None
    store.close()


def test_many_threads(store: Store) -> None:
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for n in range(12):
                mine = record(f"{thread}_{n}", noise((thread, n), 3_000))
                store.put(replace(mine, status="in_progress"))
                store.put(mine)
                assert store.get(mine.id, "anna") == mine
                if n % 3 == 0:
                    assert store.delete(mine.id, "anna")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    for thread in range(8):
        for n in range(12):
            found = store.get(f"resp_{thread}_{n}", "anna")
            expected = record(f"{thread}_{n}", noise((thread, n), 3_000))
            assert found == (None if n % 3 == 0 else expected)


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "delete"]),
        st.integers(0, 3),
        st.sampled_from(["anna", ""]),
        st.sampled_from(["queued", "completed"]),
        st.text(st.characters(codec="utf-8", exclude_characters='"\\'), max_size=50),
    ),
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(calls=CALLS)
def test_a_store_is_a_dictionary(store: Store, calls: list[tuple[str, int, str, str, str]]) -> None:
    expected = {}
    for n in range(4):
        for owner in ("anna", ""):
            store.delete(f"resp_{n}", owner)
    for call, n, owner, status, text in calls:
        made = record(str(n), text, owner=owner, status=status)
        if call == "put":
            store.put(made)
            expected[owner, n] = made
        elif call == "get":
            assert store.get(made.id, owner) == expected.get((owner, n))
        else:
            assert store.delete(made.id, owner) == (expected.pop((owner, n), None) is not None)
    for n in range(4):
        for owner in ("anna", ""):
            assert store.get(f"resp_{n}", owner) == expected.get((owner, n))
