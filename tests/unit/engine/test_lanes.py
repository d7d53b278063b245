"""Who reads which text: short ones at once, of long ones the shortest first, and nobody waits for a
large slice but who has one. All by the order of what happens."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest

from sheily_server.engine.lanes import LARGE_SLICE, Lanes, Text
from sheily_server.engine.vitals import Vitals

PATIENCE_S = 100
SMALL, LARGE = 1000, LARGE_SLICE + 1


class Slices(Text):
    """A text of slices of so many bytes; what becomes of it is written into `log`. A slice whose
    number is in `gates` is begun, and read when the gate is opened."""

    def __init__(
        self, name: str, sizes: list[int], log: queue.SimpleQueue[str], short: bool = False
    ) -> None:
        self.name = name
        self._sizes = sizes
        self._log = log
        self._short = short
        self._at = 0
        self.gates: dict[int, threading.Event] = {}
        self.begun: dict[int, threading.Event] = {}
        self.is_wanted = True
        self.error: Exception | None = None
        self.ended = threading.Event()
        self.threads: set[str] = set()
        self.while_reading: Callable[[], None] = lambda: None

    def gate(self, number: int) -> Slices:
        self.gates[number], self.begun[number] = threading.Event(), threading.Event()
        return self

    @property
    def bytes_left(self) -> int:
        return sum(self._sizes[self._at :])

    @property
    def is_short(self) -> bool:
        return self._short

    @property
    def wanted(self) -> bool:
        return self.is_wanted

    def look(self) -> int | None:
        return self._sizes[self._at] if self._at < len(self._sizes) else None

    def advance(self) -> None:
        if self._at in self.gates:
            self.begun[self._at].set()
            assert self.gates[self._at].wait(PATIENCE_S)
        self.while_reading()
        self.threads.add(threading.current_thread().name)
        self._log.put(f"{self.name}{self._at}")
        self._at += 1
        if self.error is not None:
            raise self.error

    def end(self, error: Exception | None) -> None:
        self._log.put(f"{self.name}: {error or 'read'}")
        self.ended.set()


class Desk:
    """Lanes, texts that are given to them, and what happened in which order."""

    def __init__(self) -> None:
        self.vitals = Vitals()
        self.lanes = Lanes(self.vitals)
        self.log: queue.SimpleQueue[str] = queue.SimpleQueue()

    def text(self, name: str, *sizes: int, short: bool = False) -> Slices:
        return Slices(name, list(sizes), self.log, short)

    def happened(self) -> list[str]:
        found = []
        while not self.log.empty():
            found.append(self.log.get())
        return found


@pytest.fixture
def desk() -> Desk:
    return Desk()


def wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S)


def test_a_short_text_is_read_before_the_call_returns(desk: Desk) -> None:
    text = desk.text("a", SMALL, SMALL, short=True)
    desk.lanes.read(text)
    assert desk.happened() == ["a0", "a1", "a: read"]
    assert text.threads == {threading.current_thread().name}


def test_a_short_text_does_not_wait_for_long_ones(desk: Desk) -> None:
    long = desk.text("l", SMALL, SMALL).gate(1)
    whole = desk.text("w", LARGE).gate(0)
    desk.lanes.read(whole)
    wait(whole.begun[0])
    desk.lanes.read(long)
    wait(long.begun[1])
    desk.lanes.read(desk.text("s", SMALL, short=True))
    assert desk.happened() == ["l0", "s0", "s: read"]
    long.gates[1].set()
    whole.gates[0].set()
    wait(long.ended)
    wait(whole.ended)
    assert sorted(desk.happened()) == ["l1", "l: read", "w0", "w: read"]


def test_a_long_text_is_read_on_another_thread(desk: Desk) -> None:
    text = desk.text("a", SMALL, SMALL)
    desk.lanes.read(text)
    wait(text.ended)
    assert desk.happened() == ["a0", "a1", "a: read"]
    assert threading.current_thread().name not in text.threads


def test_of_long_texts_the_shortest_goes_first(desk: Desk) -> None:
    first = desk.text("f", SMALL, *[SMALL] * 9).gate(0)
    desk.lanes.read(first)
    wait(first.begun[0])  # one slice is being read, and nothing else begins before its end
    longer, shorter = desk.text("l", *[SMALL] * 5), desk.text("s", *[SMALL] * 3)
    desk.lanes.read(longer)
    desk.lanes.read(shorter)
    first.gates[0].set()
    for text in (first, longer, shorter):
        wait(text.ended)
    assert desk.happened() == [
        *("f0", "s0", "s1", "s2", "s: read"),
        *("l0", "l1", "l2", "l3", "l4", "l: read"),
        *(f"f{i}" for i in range(1, 10)),
        "f: read",
    ]


def test_a_large_slice_keeps_no_other_long_text_waiting(desk: Desk) -> None:
    large = desk.text("w", SMALL, LARGE, SMALL).gate(1)
    desk.lanes.read(large)
    wait(large.begun[1])
    other = desk.text("o", LARGE_SLICE, SMALL)
    desk.lanes.read(other)
    wait(other.ended)
    assert desk.happened() == ["w0", "o0", "o1", "o: read"]
    large.gates[1].set()
    wait(large.ended)
    assert desk.happened() == ["w1", "w2", "w: read"]
    assert len(large.threads) == 2  # behind the large slice it goes on as other texts do


def test_large_slices_are_read_one_at_a_time(desk: Desk) -> None:
    first, second = desk.text("a", LARGE).gate(0), desk.text("b", LARGE)
    desk.lanes.read(first)
    wait(first.begun[0])
    desk.lanes.read(second)
    small = desk.text("s", SMALL)
    desk.lanes.read(small)
    wait(small.ended)
    assert desk.happened() == ["s0", "s: read"]
    first.gates[0].set()
    wait(second.ended)
    wait(first.ended)
    happened = desk.happened()
    assert happened.index("a0") < happened.index("b0")


def test_what_nobody_waits_for_is_not_read(desk: Desk) -> None:
    for short in (True, False):
        text = desk.text("a", SMALL, SMALL, SMALL, short=short).gate(1)
        reader = threading.Thread(target=desk.lanes.read, args=(text,))
        reader.start()
        wait(text.begun[1])
        text.is_wanted = False
        text.gates[1].set()
        reader.join(PATIENCE_S)
        after = desk.text("b", SMALL)
        desk.lanes.read(after)
        wait(after.ended)
        assert desk.happened() == ["a0", "a1", "b0", "b: read"]
        assert not text.ended.is_set()


@pytest.mark.parametrize("short", [True, False])
def test_a_text_that_cannot_be_read_is_told_so(desk: Desk, short: bool) -> None:
    text = desk.text("a", SMALL, SMALL, short=short)
    text.error = ValueError("broken")
    desk.lanes.read(text)
    wait(text.ended)
    after = desk.text("b", SMALL, short=short)
    desk.lanes.read(after)
    wait(after.ended)
    assert desk.happened() == ["a0", "a: broken", "b0", "b: read"]


@pytest.mark.parametrize("short", [True, False])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_slice_that_is_read_is_a_sign_of_life(desk: Desk, short: bool, size: int) -> None:
    seen: list[float | None] = []
    text = desk.text("a", size, short=short)
    text.while_reading = lambda: seen.append(desk.vitals.beat().reading_s)
    assert desk.vitals.beat().reading_s is None
    desk.lanes.read(text)
    wait(text.ended)
    assert len(seen) == 1
    assert seen[0] is not None
    after = desk.text("b", SMALL, short=short)  # whose end is behind that of the slice before
    desk.lanes.read(after)
    wait(after.ended)
    assert desk.vitals.beat().reading_s is None


def test_a_thread_that_fails_does_not_keep_its_texts_for_ever(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    monkeypatch.setattr("os._exit", left.put)
    text = desk.text("a", SMALL)

    def fail() -> None:
        raise SystemExit  # no Exception, as a panic in Rust is none

    text.while_reading = fail
    desk.lanes.read(text)
    assert left.get(timeout=PATIENCE_S) == 1
