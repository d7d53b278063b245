"""Grammars that are kept once they are compiled, with compiling that is counted."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from sheily_server.engine.grammar.constraint import (
    MOST_KEPT,
    MOST_KEPT_BYTES,
    Constraint,
    ConstraintError,
    Grammars,
    Vocabulary,
)
from tests.support.fake_grammars import Path

PATIENCE_S = 100


class Copied(Path):
    def copy(self) -> Constraint:
        return Copied(self.tokens, self.gates)


class Counted(Grammars):
    """Compiles to a path of one token, unless the text is `none`."""

    def __init__(self) -> None:
        super().__init__(Vocabulary([b"a"], [], [0], None), 100)
        self.n_compiled: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()

    def compile_now(self, lark: str) -> Constraint:
        self.n_compiled[lark] += 1
        assert self.gate.wait(PATIENCE_S)
        if lark == "none":
            raise ConstraintError("it is none")
        return Copied([1], {})


def test_whoever_asks_at_once_waits_for_one_compilation_and_gets_a_copy() -> None:
    grammars = Counted()
    grammars.gate.clear()
    found: list[Constraint] = []
    threads = [
        threading.Thread(target=lambda: found.append(grammars.compile("a", 10))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    grammars.gate.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert grammars.n_compiled == {"a": 1}
    assert len({id(constraint) for constraint in found}) == 4
    found[0].accept(1)
    assert [constraint.complete for constraint in found] == [True, False, False, False]


def test_so_many_are_kept_and_those_used_last() -> None:
    grammars = Counted()
    for i in range(MOST_KEPT):
        grammars.compile(f"{i}", 1)
    grammars.compile("0", 1)
    grammars.compile("one more", 1)
    grammars.compile("0", 1)
    grammars.compile("1", 1)
    assert grammars.n_compiled["0"] == 1
    assert grammars.n_compiled["1"] == 2


def test_what_is_kept_has_a_size() -> None:
    grammars = Counted()
    for name in "abc":
        grammars.compile(name, MOST_KEPT_BYTES // 2)
    for name in "cba":
        grammars.compile(name, MOST_KEPT_BYTES // 2)
    assert grammars.n_compiled == {"a": 2, "b": 1, "c": 1}


def test_one_that_is_larger_than_all_may_be_is_kept_alone() -> None:
    grammars = Counted()
    for _ in range(2):
        grammars.compile("large", 2 * MOST_KEPT_BYTES)
    assert grammars.n_compiled == {"large": 1}


def test_one_that_fails_fails_each_time() -> None:
    grammars = Counted()
    for _ in range(2):
        with pytest.raises(ConstraintError):
            grammars.compile("none", 1)
    assert grammars.n_compiled == {"none": 2}
