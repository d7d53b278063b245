"""An answer followed in its grammar: the mask for the next token, when it is there."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from sheily_server.engine.grammar import follower as module
from sheily_server.engine.grammar.constraint import Constraint, ConstraintError
from sheily_server.engine.grammar.follower import Follower
from sheily_server.engine.priority import LOWER
from tests.support.fake_grammars import PATIENCE_S, Path


def started(
    compile: Callable[[], Constraint], gives_way: bool = False
) -> tuple[Follower, threading.Event]:
    woken = threading.Event()
    follower = Follower(compile, woken.set, gives_way)
    follower.start()
    return follower, woken


def allowed(follower: Follower) -> list[int]:
    return [
        32 * i + bit for i, word in enumerate(follower.mask) for bit in range(32) if word >> bit & 1
    ]


def test_a_mask_for_each_token_until_the_answer_is_whole() -> None:
    path = Path([3, 40, 7], {})
    follower, _ = started(lambda: path)
    for token in (3, 40, 7):
        assert follower.wait(PATIENCE_S)
        assert not follower.complete
        assert allowed(follower) == [token]
        follower.take(token)
    assert follower.wait(PATIENCE_S)
    assert follower.complete
    assert follower.failure is None
    assert path.taken == [3, 40, 7]
    assert threading.current_thread().name not in path.thread_names
    follower.close()


def test_there_is_no_mask_before_it_is_computed() -> None:
    gate = threading.Event()
    follower, _ = started(lambda: Path([3, 4], {0: gate}))
    assert not follower.wait(0)
    with pytest.raises(RuntimeError, match="no mask"):
        _ = follower.mask
    gate.set()
    assert follower.wait(PATIENCE_S)
    follower.take(3)
    follower.close()


def test_an_old_mask_is_not_taken_for_the_next_one() -> None:
    gate = threading.Event()
    follower, _ = started(lambda: Path([3, 4], {1: gate}))
    assert follower.wait(PATIENCE_S)
    follower.take(3)
    assert not follower.wait(0)
    with pytest.raises(RuntimeError, match="no mask"):
        _ = follower.mask
    gate.set()
    assert follower.wait(PATIENCE_S)
    assert allowed(follower) == [4]
    follower.close()


def test_who_waited_in_vain_is_woken() -> None:
    gates = {0: threading.Event(), 1: threading.Event()}
    follower, woken = started(lambda: Path([3, 4], gates))
    for number, token in enumerate([3, 4]):
        assert not follower.wait(0.001)
        assert not woken.is_set()
        gates[number].set()
        assert woken.wait(PATIENCE_S)
        assert follower.wait(0)
        woken.clear()
        follower.take(token)
    follower.close()


def test_who_found_the_mask_is_not_woken() -> None:
    gate = threading.Event()
    follower, woken = started(lambda: Path([3, 4, 5], {2: gate}))
    assert woken.wait(PATIENCE_S)
    assert follower.wait(PATIENCE_S)
    woken.clear()
    follower.take(3)
    assert follower.wait(PATIENCE_S)
    assert not woken.is_set()
    follower.take(4)
    gate.set()
    follower.close()


def test_compiling_is_waited_for_as_a_mask_is() -> None:
    gate = threading.Event()

    def compile() -> Constraint:
        assert gate.wait(PATIENCE_S)
        return Path([3], {})

    follower, woken = started(compile)
    assert not follower.wait(0)
    gate.set()
    assert woken.wait(PATIENCE_S)
    assert follower.wait(0)
    assert allowed(follower) == [3]
    follower.close()


def fails(error: BaseException) -> Callable[[], Constraint]:
    def compile() -> Constraint:
        raise error

    return compile


@pytest.mark.parametrize(
    ("compile", "failure"),
    [
        (fails(ConstraintError("it is none")), "it is none"),
        (fails(KeyError("odd")), "KeyError"),
        (fails(SystemExit()), "SystemExit"),  # no Exception, as a panic in Rust is none
        (lambda: Path([3], {}, fails=0), "too many states"),
    ],
)
def test_a_grammar_that_cannot_be_followed(compile: Callable[[], Constraint], failure: str) -> None:
    follower, _ = started(compile)
    assert follower.wait(PATIENCE_S)
    assert failure in (follower.failure or "")
    assert not follower.complete
    follower.close()


def test_a_failure_in_the_middle() -> None:
    follower, _ = started(lambda: Path([3, 4], {}, fails=1))
    assert follower.wait(PATIENCE_S)
    assert follower.failure is None
    follower.take(3)
    assert follower.wait(PATIENCE_S)
    assert follower.failure == "too many states"
    follower.close()


def test_its_thread_ends_with_it() -> None:
    gate = threading.Event()
    followers = [
        started(lambda: Path([3, 4], {}))[0],
        started(lambda: Path([3, 4], {0: gate}))[0],
        started(lambda: Path([], {}))[0],
    ]
    threads = [follower._thread for follower in followers]
    assert followers[0].wait(PATIENCE_S)
    for follower in followers:
        follower.close()
    gate.set()  # what is being computed comes to its end
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux")
def test_who_takes_long_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    gate = threading.Event()
    follower, _ = started(lambda: Path([3, 4], {1: gate}))
    assert follower.wait(PATIENCE_S)
    monkeypatch.setattr(module, "PATIENCE_S", 0)
    number = follower._thread.native_id
    assert number is not None
    assert os.getpriority(os.PRIO_PROCESS, number) == own
    follower.take(3)
    assert not follower.wait(0.001)
    assert os.getpriority(os.PRIO_PROCESS, number) == min(own + LOWER, 19)
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
    gate.set()
    follower.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux")
def test_a_costly_grammar_gives_way_from_the_start() -> None:
    seen: list[int] = []

    def compile() -> Constraint:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return Path([3], {})

    follower, _ = started(compile, gives_way=True)
    assert follower.wait(PATIENCE_S)
    assert seen == [min(os.getpriority(os.PRIO_PROCESS, 0) + LOWER, 19)]
    follower.close()
