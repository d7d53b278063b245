"""What the engine tells of itself: only what stands still has an age."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from sheily_server.engine.vitals import Vitals, tell
from sheily_server.protocol.channel import Channel
from sheily_server.protocol.events import Beat


def test_an_idle_engine_has_nothing_that_stands_still() -> None:
    assert Vitals().beat() == Beat()


def test_a_step_s_last_sign_is_its_beginning_or_the_heartbeat_in_it() -> None:
    vitals = Vitals()
    now = time.monotonic()
    vitals.step_began = now - 5
    assert 5 <= (vitals.beat().step_s or 0) < 6
    vitals.heartbeat = lambda: int((now - 2) * 1e9)
    assert 2 <= (vitals.beat().step_s or 0) < 3
    vitals.step_began = now - 1  # a step after the one that the heartbeat is of
    assert 1 <= (vitals.beat().step_s or 0) < 2
    vitals.step_began = None
    assert vitals.beat().step_s is None


def test_ages_and_cells() -> None:
    vitals = Vitals()
    vitals.step_ended = time.monotonic() - 4
    vitals.kv_cells_used, vitals.kv_cells_cached = 10, 20
    beat = vitals.beat()
    assert 4 <= (beat.idle_s or 0) < 5
    assert (beat.kv_cells_used, beat.kv_cells_cached) == (10, 20)


def test_a_slice_of_text_that_takes_its_usual_time_is_no_sign_of_hanging() -> None:
    vitals = Vitals()
    with vitals.reading(n_bytes=10**9):
        assert vitals.beat().reading_s == 0
    assert vitals.beat().reading_s is None


def test_the_cpu_time_beyond_what_a_slice_may_take_counts() -> None:
    vitals = Vitals()
    with vitals.reading(0):
        burn(0.05)
        assert 0.05 <= (vitals.beat().reading_s or 0) < 60
    assert vitals.beat().reading_s is None


def test_the_time_that_a_busy_machine_lets_a_text_wait_does_not_count() -> None:
    if not hasattr(time, "pthread_getcpuclockid"):
        pytest.skip("this system does not tell the CPU time of a thread")
    vitals = Vitals()
    with vitals.reading(0):
        time.sleep(0.5)
        assert (vitals.beat().reading_s or 0) < 0.25


def test_of_several_texts_the_one_that_takes_longest_counts() -> None:
    vitals = Vitals()
    reading, enough = threading.Event(), threading.Event()

    def read() -> None:
        with vitals.reading(10**9):
            reading.set()
            enough.wait(100)

    thread = threading.Thread(target=read)
    thread.start()
    reading.wait(100)
    with vitals.reading(0):
        burn(0.05)
        assert (vitals.beat().reading_s or 0) >= 0.05
    assert vitals.beat().reading_s == 0  # of the other thread's, which goes on
    enough.set()
    thread.join(100)
    assert vitals.beat().reading_s is None


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_beats_come_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()

    def leave(code: int) -> None:
        left.set()
        raise SystemExit(code)

    monkeypatch.setattr("sheily_server.engine.vitals.BEAT_S", 0.01)
    monkeypatch.setattr("os._exit", leave)
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def run() -> None:
            with contextlib.suppress(SystemExit):
                tell(Vitals(), Channel(theirs))

        thread = threading.Thread(target=run)
        thread.start()
        channel = Channel(ours)
        assert [channel.receive_events() for _ in range(2)] == [[Beat()], [Beat()]]
        channel.close()
        thread.join(10)
    assert left.is_set()  # with nobody to tell it to, the process leaves
