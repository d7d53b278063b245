"""Who passes into the engine, who is in native code there, and who waits for whom."""

from __future__ import annotations

from sheily_server.backend.gate import MOST_CANCELLED, Gate, Passed
from sheily_server.protocol.events import Beat


def arrive(gate: Gate, id: int, alone: bool = False) -> list[int]:
    return ids(gate.arrive(id, b"f%d" % id, b"frame %d" % id, suspect=alone))


def ids(passed: Passed) -> list[int]:
    assert all(frame == b"frame %d" % id for id, frame in passed)
    return [id for id, _ in passed]


def native(gate: Gate, *unwritten: int) -> set[bytes]:
    return set(gate.native(unwritten))


def test_all_pass_at_once_while_none_goes_alone() -> None:
    gate = Gate()
    assert [arrive(gate, id) for id in (1, 2, 3)] == [[1], [2], [3]]
    assert gate.alone is None


def test_one_goes_alone_and_the_others_wait() -> None:
    gate = Gate()
    arrive(gate, 1)
    assert arrive(gate, 2, alone=True) == []
    assert arrive(gate, 3) == []  # as it came later
    assert arrive(gate, 4, alone=True) == []
    assert arrive(gate, 5) == []
    assert not gate.is_inside(2)
    assert ids(gate.left(1)) == [2]
    assert (gate.alone, gate.fingerprint(2)) == (2, b"f2")
    assert arrive(gate, 6) == []
    assert ids(gate.left(2)) == [3]
    assert ids(gate.left(3)) == [4]
    assert ids(gate.left(4)) == [5, 6]
    assert gate.alone is None


def test_whoever_gives_up_waiting_holds_up_nobody() -> None:
    gate = Gate()
    arrive(gate, 1)
    arrive(gate, 2, alone=True)
    arrive(gate, 3)
    assert ids(gate.left(2)) == [3]
    assert ids(gate.left(1)) == []


def test_native_code_is_reading_and_having_a_slot() -> None:
    gate = Gate()
    for id in (1, 2, 3, 4):
        arrive(gate, id)
    for id in (2, 3):
        gate.admitted(id)
    gate.started(3)
    gate.admitted(99)
    gate.started(99)
    assert native(gate) == {b"f1", b"f3", b"f4"}
    assert native(gate, 4) == {b"f1", b"f3"}
    gate.left(1)
    assert native(gate, 4) == {b"f3"}
    gate.clear()
    assert native(gate) == set()


def test_a_cancelled_request_is_there_until_the_engine_is_known_to_be_done_with_it() -> None:
    gate = Gate()
    arrive(gate, 1)
    gate.cancelled(1, 100.0)
    assert arrive(gate, 2, alone=True) == []
    for now, step_s, reading_s, idle_s in (
        (100.5, None, None, None),  # too soon
        (160.0, 0.01, None, 60.0),  # a long step that gives signs of life
        (160.0, 0.01, None, None),  # the first step
        (160.0, 60.0, None, 60.0),
        (160.0, None, 0.0, 60.0),  # a text is read, which may be this one's
        (160.0, None, 5.0, 60.0),
    ):
        assert gate.beat(now, Beat(step_s=step_s, reading_s=reading_s, idle_s=idle_s)) == []
        assert native(gate) == {b"f1"}
    assert ids(gate.beat(160.0, Beat(step_s=0.1, idle_s=58.0))) == [2]  # the step began later
    assert native(gate) == {b"f2"}
    gate.beat(1000.0, Beat())
    assert gate.is_inside(2)  # nobody cancelled it


def test_an_engine_without_work_has_taken_note() -> None:
    gate = Gate()
    arrive(gate, 1)
    gate.cancelled(1, 100.0)
    arrive(gate, 2, alone=True)
    assert ids(gate.beat(101.5, Beat())) == [2]


def test_the_end_of_a_cancelled_request_may_come_before() -> None:
    gate = Gate()
    arrive(gate, 1)
    gate.cancelled(1, 100.0)
    arrive(gate, 2, alone=True)
    assert ids(gate.left(1)) == [2]


def test_cancelled_requests_do_not_pile_up() -> None:
    gate = Gate()
    for id in range(3 * MOST_CANCELLED):
        arrive(gate, id)
        gate.cancelled(id, 1.0)
    assert len(gate.native(())) == MOST_CANCELLED
    assert gate.is_inside(3 * MOST_CANCELLED - 1)


def test_none_goes_alone_beside_cancelled_ones_that_are_no_longer_listed() -> None:
    """Else it would be taken for the one that the engine dies of."""
    gate = Gate()
    for id in range(MOST_CANCELLED + 1):
        arrive(gate, id)
        gate.cancelled(id, 100.0)
    for id in range(MOST_CANCELLED + 1):
        gate.left(id)
    assert arrive(gate, 1000, alone=True) == []
    assert gate.beat(100.5, Beat()) == []
    assert ids(gate.beat(101.5, Beat())) == [1000]


def test_a_wary_gate_lets_one_at_a_time_in_until_it_is_none_any_more() -> None:
    gate = Gate()
    gate.wary = True
    assert [arrive(gate, id) for id in (1, 2, 3, 4)] == [[1], [], [], []]
    assert gate.alone == 1
    assert ids(gate.left(1)) == [2]
    gate.wary = False
    assert ids(gate.left(2)) == [3, 4]
    assert gate.alone is None


def test_a_suspect_goes_alone_behind_a_wary_time_too() -> None:
    gate = Gate()
    gate.wary = True
    arrive(gate, 1)
    arrive(gate, 2, alone=True)
    arrive(gate, 3)
    gate.wary = False
    assert ids(gate.left(1)) == [2]
    assert ids(gate.left(2)) == [3]


def test_what_is_sent_again_is_the_first() -> None:
    gate = Gate()
    gate.wary = True
    for id in (1, 2, 3):
        arrive(gate, id)
    assert ids(gate.left(1)) == [2]
    assert gate.arrive(1, b"f1", b"shorter", suspect=False, first=True) == []
    assert gate.left(2) == [(1, b"shorter")]
    assert ids(gate.left(1)) == [3]
