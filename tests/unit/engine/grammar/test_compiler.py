"""Trials of grammars side by side: who runs, who waits, and what is said of what ended how. The
processes are `cat`: what a test writes to one is what it says."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from sheily_server.engine.grammar import blame, compiler, forked
from sheily_server.engine.grammar.blame import Fault
from sheily_server.engine.grammar.compiler import AT_ONCE, Bench, Try, Verdict
from sheily_server.engine.grammar.constraint import Constraint, ConstraintError, Grammars
from sheily_server.engine.grammar.forked import (
    CPU_S,
    MASK_S,
    MEMORY,
    STANDSTILL,
    Cost,
    LimitError,
    TrialEndedError,
    measured,
    outcome,
)
from sheily_server.protocol.commands import Grammar
from tests.support.fake_grammars import Paths

PATIENCE_S = 100
PART = "schema.properties.a"
FAULT = Fault("schema", ["properties", "a"])


class Trials:
    """A bench whose trials are processes of this test."""

    def __init__(self) -> None:
        self.bench = Bench(Paths({}))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pipes: list[int] = []

    def fork(self, run: Callable[[int], object]) -> tuple[int, int]:
        reading, writing = os.pipe()
        process = subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, stdout=writing, start_new_session=True
        )
        os.close(writing)
        self.processes.append(process)
        self.pipes.append(reading)
        return process.pid, reading

    def begin(self, id: int, caller: str = "me") -> None:
        self.bench.begin(Try(id, Grammar(f"grammar {id}", "schema"), caller))

    def says(self, number: int, answer: bytes) -> Verdict | None:
        """What comes of it that the process with this number says that and ends."""
        process = self.processes[number]
        assert process.stdin is not None
        process.stdin.write(answer)
        process.stdin.close()
        return self.read(number)

    def dies(self, number: int, by: signal.Signals) -> Verdict | None:
        self.processes[number].send_signal(by)
        return self.read(number)

    def read(self, number: int) -> Verdict | None:
        pipe, verdict = self.pipes[number], None
        while pipe in self.bench.pipes:
            assert select.select([pipe], [], [], PATIENCE_S)[0]
            verdict = self.bench.read(pipe)
        return verdict

    def alive(self) -> list[int]:
        return [i for i, process in enumerate(self.processes) if process.poll() is None]


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trials]:
    trials = Trials()
    monkeypatch.setattr(compiler, "fork", trials.fork)
    yield trials
    trials.bench.end()
    assert trials.alive() == []
    for process in trials.processes:
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial that is looked at takes longer than a quick one."""
    monkeypatch.setattr(compiler, "QUICK_S", -1)


def cost(**fields: Any) -> bytes:
    return msgspec.json.encode(Cost(**fields)) + b"\n"


def test_quick_trials_go_on_side_by_side(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "QUICK_S", 1000)
    for id in range(1, 6):
        trials.begin(id)
    trials.bench.look()
    assert trials.alive() == [0, 1, 2, 3, 4]
    assert trials.bench.patience_s == 500
    for i in (3, 0, 4, 1, 2):
        verdict = trials.says(i, cost(compile_s=0.5, mask_s=0.01, n_bytes=i))
        assert verdict == Verdict(
            id=i + 1, problem=None, param="schema", compile_s=0.5, mask_s=0.01, n_bytes=i
        )
    assert trials.bench.pipes == []
    assert trials.bench.patience_s is None


@pytest.mark.usefixtures("takes_long")
def test_a_caller_has_one_slow_trial_at_a_time(trials: Trials) -> None:
    for id in (1, 2, 3):
        trials.begin(id)
    trials.bench.look()
    assert trials.alive() == [0]  # the others were ended, and wait
    assert trials.bench.patience_s is None
    for id in (1, 2, 3):
        [running] = trials.alive()
        verdict = trials.says(running, cost())
        assert verdict is not None
        assert verdict.id == id
        trials.bench.look()
    assert len(trials.processes) == 5  # two were begun anew
    assert trials.bench.pipes == []


@pytest.mark.usefixtures("takes_long")
def test_there_are_so_many_slow_trials_at_once(trials: Trials) -> None:
    for id in range(1, AT_ONCE + 3):
        trials.begin(id, f"caller {id}")
    trials.bench.look()
    assert trials.alive() == list(range(AT_ONCE))
    assert trials.says(0, cost()) is not None
    trials.bench.look()
    assert len(trials.bench.pipes) == AT_ONCE
    trials.bench.look()
    assert len(trials.bench.pipes) == AT_ONCE


@pytest.mark.usefixtures("takes_long")
def test_a_caller_with_many_slow_trials_leaves_room_for_another(trials: Trials) -> None:
    for id in range(1, 10):
        trials.begin(id, "hostile")
        trials.bench.look()
    trials.begin(10, "other")
    trials.bench.look()
    assert trials.alive() == [0, 9]
    verdict = trials.says(9, cost())
    assert verdict is not None
    assert verdict.id == 10


def test_a_quick_trial_runs_beside_slow_ones(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "QUICK_S", -1)
    for caller in ("a", "b", "c"):
        trials.begin(1, caller)
    trials.bench.look()
    monkeypatch.setattr(compiler, "QUICK_S", 1000)
    trials.begin(2, "a")
    trials.bench.look()
    verdict = trials.says(len(trials.processes) - 1, cost())
    assert verdict is not None
    assert verdict.id == 2


@pytest.mark.usefixtures("takes_long")
@pytest.mark.parametrize(
    ("by", "sentence"),
    [
        (signal.SIGABRT, "takes more than 64 MiB of memory: it is too complex"),
        (signal.SIGPROF, "takes more than 1 s to compile: it is too complex"),
        (signal.SIGSEGV, "takes more than 4 MiB of stack: it is too complex"),
        (signal.SIGBUS, "ends the compiler"),
    ],
)
def test_of_what_is_over_a_limit_the_part_to_blame_is_looked_for(
    trials: Trials, by: signal.Signals, sentence: str
) -> None:
    trials.begin(1)
    assert trials.dies(0, by) is None
    trials.bench.look()
    fault = msgspec.structs.replace(FAULT, keyword="pattern a")
    assert trials.says(1, msgspec.msgpack.encode([fault])) == Verdict(
        id=1, problem=f"pattern a {sentence}", param=PART, faults=[fault]
    )


@pytest.mark.usefixtures("takes_long")
def test_who_is_over_a_limit_is_told_so_before_its_caller_s_next_is_tried(trials: Trials) -> None:
    for id in (1, 2, 3):
        trials.begin(id)
    trials.bench.look()
    assert trials.dies(0, signal.SIGPROF) is None
    trials.bench.look()
    [running] = trials.alive()
    verdict = trials.says(running, msgspec.msgpack.encode([FAULT]))
    assert verdict is not None
    assert verdict.id == 1


@pytest.mark.usefixtures("takes_long")
def test_where_no_part_is_found_the_whole_is_to_blame(trials: Trials) -> None:
    trials.begin(1)
    sentence = f"takes 0.50 s for a token, more than {MASK_S:g}: it is too complex"
    assert trials.says(0, cost(mask_s=0.5)) is None
    trials.bench.look()
    assert trials.dies(1, signal.SIGKILL) == Verdict(id=1, problem=f"it {sentence}", param="schema")


def test_a_grammar_that_is_none(trials: Trials) -> None:
    trials.begin(1)
    assert trials.says(0, cost(problem="no type")) == Verdict(
        id=1, problem="no type", param="schema"
    )
    trials.begin(2)
    other = Fault("schema", ["anyOf", 1])
    lines = [msgspec.json.encode(fault) + b"\n" for fault in (FAULT, other)]
    found = trials.says(1, cost(problem="no type") + b"".join(lines) + b'{"schema": "sch')
    assert found == Verdict(id=2, problem="no type", param=PART, faults=[FAULT, other])


@pytest.mark.usefixtures("takes_long")
def test_what_nobody_waits_for_is_ended(trials: Trials) -> None:
    for id in (1, 2, 3):
        trials.begin(id)
    trials.bench.look()
    trials.bench.forget(2)  # which waits
    trials.bench.forget(1)  # which runs
    assert trials.alive() == []
    trials.bench.look()
    [running] = trials.alive()
    verdict = trials.says(running, cost())
    assert verdict is not None
    assert verdict.id == 3
    trials.bench.forget(3)
    trials.bench.look()
    assert trials.bench.pipes == []


@pytest.mark.parametrize(
    ("status", "answer", "sentence"),
    [
        (0, b"", "ends the compiler"),
        (1 << 8, b"", "ends the compiler"),
        (0, cost()[:-1], "ends the compiler"),
        (signal.SIGPROF, b"", f"more than {CPU_S:g} s"),
        (signal.SIGABRT, b"", "64 MiB"),
        (0, cost(mask_s=MASK_S * 1.1), "for a token"),
    ],
)
def test_what_is_over_a_limit(status: int, answer: bytes, sentence: str) -> None:
    with pytest.raises(LimitError, match=sentence):
        outcome(status, answer, CPU_S)


class Sleeper(Grammars):
    """Takes no time of a CPU, and does not come to an end."""

    def __init__(self) -> None:
        pass

    def compile_now(self, lark: str) -> Constraint:
        time.sleep(PATIENCE_S)
        raise AssertionError("nobody ended it")


def test_what_stands_still_is_ended() -> None:
    with pytest.raises(TrialEndedError, match=r"^stood still for 0\.3 s$"):
        measured(Sleeper(), Grammar("any", "schema"), (), cpu_s=0.3 / STANDSTILL)


class Working(Grammars):
    """Does something in the place of compiling."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work

    def compile_now(self, lark: str) -> Constraint:
        self._work()
        raise ConstraintError("it is none")


def spin() -> None:
    while True:
        pass


def hoard() -> None:
    faulthandler.disable()  # it would tell where this process ended, which is to end
    bytes(4 * MEMORY)


def fail() -> None:
    raise OSError("there is no room for another file")


def cost_of(work: Callable[[], object], cpu_s: float = 0.1) -> Cost:
    return measured(Working(work), Grammar("any", "schema"), (), cpu_s)


def test_the_time_of_a_cpu_is_limited() -> None:
    with pytest.raises(LimitError, match=r"^takes more than 0\.1 s to compile: it is too complex$"):
        cost_of(spin)


def test_time_in_which_it_does_nothing_does_not_count() -> None:
    assert cost_of(lambda: time.sleep(0.5)).problem == "it is none"


def test_memory_is_limited() -> None:
    with pytest.raises(LimitError, match="takes more than 64 MiB of memory"):
        cost_of(hoard, cpu_s=10)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (fail, "did not get what it needed from the system"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed"),
    ],
)
def test_what_is_not_the_grammar_s_fault_tells_nothing_of_it(
    work: Callable[[], object], words: str
) -> None:
    with pytest.raises(TrialEndedError, match=words):
        cost_of(work)


def test_a_trial_that_was_killed_has_no_verdict_on_the_grammar(trials: Trials) -> None:
    trials.begin(1)
    verdict = trials.dies(0, signal.SIGKILL)
    assert verdict == Verdict(id=1, failure="was killed")


def test_a_search_that_was_killed_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> Cost:
        raise TrialEndedError("was killed")

    monkeypatch.setattr(forked, "measured", killed)
    grammar = Grammar("any", "schema", {"schema": json.dumps({"anyOf": [{}, {}]}), "other": "{}"})
    assert forked.parts_to_blame(Paths({}), grammar) == []


def test_what_is_within_the_limits() -> None:
    fine = Cost(compile_s=0.1, mask_s=MASK_S, n_bytes=5)
    assert outcome(0, msgspec.json.encode(fine) + b"\n", CPU_S) == fine
    # The search for the place may be cut short.
    answer = cost(problem="none") + b'"schema.a'
    assert outcome(signal.SIGPROF, answer, CPU_S) == Cost(problem="none")


# --- the part to blame ----------------------------------------------------------------------------

BAD = {"bad": True}


def is_bad(schema: Any, root: Any) -> bool:
    return "bad" in json.dumps(schema)


def blamed(*schemas: Any) -> tuple[str, str]:
    """The part to blame, if each part is that has something bad inside."""
    grammar = Grammar("", "tools", {f"schema{i}": json.dumps(one) for i, one in enumerate(schemas)})
    faults = blame.find(grammar, is_bad)
    return (faults[0].place, faults[0].keyword) if faults else (grammar.param, "")


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (BAD, ""),
        ({"properties": {"a": {}, "b": {"properties": {"c": BAD}}}}, ".properties.b.properties.c"),
        ({"items": BAD, "type": "array"}, ".items"),
        ({"prefixItems": [{}, BAD]}, ".prefixItems[1]"),
        ({"anyOf": [{}, {"allOf": [{}, {}, BAD]}]}, ".anyOf[1].allOf[2]"),
        ({"additionalProperties": BAD}, ".additionalProperties"),
        ({"patternProperties": {"^a": BAD}}, ".patternProperties.^a"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {}, "b": BAD}}, ".$defs.b"),
        ({"not": BAD}, ".not"),  # a keyword that is to blame as a whole
    ],
)
def test_the_deepest_part_is_named(schema: Any, place: str) -> None:
    assert blamed(schema)[0].removesuffix(".bad") == f"schema0{place}"


def test_the_keyword_to_blame_is_named() -> None:
    schema = {"properties": {"a": {"type": "string", "maxLength": 5, "pattern": "bad"}}}
    assert blamed(schema) == ("schema0.properties.a.pattern", 'pattern "bad"')


@pytest.mark.parametrize(
    ("n_looks", "place"),
    [(0, ""), (1, ".properties.a"), (2, ".properties.a.items"), (3, ".properties.a.items.pattern")],
)
def test_a_search_that_was_ended_names_what_it_has_found(n_looks: int, place: str) -> None:
    looks = iter(range(n_looks))

    def to_blame(schema: dict[str, object], root: dict[str, object]) -> bool:
        if next(looks, None) is None:
            raise blame.SearchEndedError
        return "bad" in json.dumps(schema)

    schema = {"properties": {"a": {"items": {"type": "string", "pattern": "bad"}}}}
    grammar = Grammar("", "schema", {"schema": json.dumps(schema)})
    [fault] = blame.find(grammar, to_blame)
    assert fault.place == f"schema{place}"


def test_of_several_schemas_the_one_to_blame_is_named() -> None:
    assert blamed({}, {"items": {}}, {"items": BAD})[0] == "schema2.items.bad"
    assert blamed({}, {})[0] == "tools"
    assert blamed()[0] == "tools"


MANY = {"properties": {"a": BAD, "b": {"items": BAD}, "c": {}, "d": {"anyOf": [{}, BAD, BAD]}}}


@pytest.mark.parametrize("most", [1, 3, 10])
def test_all_parts_are_found_where_they_may_be_relaxed(most: int) -> None:
    schemas = {"strict": json.dumps(BAD), "one": json.dumps(MANY), "two": json.dumps(BAD)}
    grammar = Grammar("", "tools", schemas, loose=["one", "two"])
    found = [fault.place for fault in blame.find(grammar, is_bad, most)]
    expected = ["a.bad", "b.items.bad", "d.anyOf[1].bad", "d.anyOf[2].bad"]
    assert found == [*(f"one.properties.{place}" for place in expected), "two.bad"][:most]


def test_a_definition_is_to_blame_rather_than_what_refers_to_it() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/bad"}, "b": BAD}, "$defs": {"bad": BAD}}
    grammar = Grammar("", "one", {"one": json.dumps(schema)}, loose=["one"])
    assert [fault.place for fault in blame.find(grammar, is_bad, 10)] == ["one.$defs.bad.bad"]


def test_others_are_looked_at_when_those_are_fine() -> None:
    schemas = {"loose": "{}", "strict": json.dumps(BAD)}
    [fault] = blame.find(Grammar("", "tools", schemas, loose=["loose"]), is_bad)
    assert fault.place == "strict.bad"


def test_a_search_that_was_ended_names_no_larger_part_beside_what_it_has_found() -> None:
    looks = iter(range(3))  # of `a`, of it without its keyword, of `b`

    def to_blame(schema: dict[str, object], root: dict[str, object]) -> bool:
        if next(looks, None) is None:
            raise blame.SearchEndedError
        return is_bad(schema, root)

    grammar = Grammar("", "one", {"one": json.dumps(MANY)}, loose=["one"])
    found = [fault.place for fault in blame.find(grammar, to_blame, 10)]
    assert found == ["one.properties.a.bad"]


def test_every_pattern_is_found_once() -> None:
    schema = {
        "$defs": {"a": {"type": "string", "pattern": "^a"}},
        "properties": {
            "pattern": {"type": "string", "pattern": "^b"},
            "l": {"items": {"anyOf": [{"type": "null"}, {"pattern": "^c", "maxLength": 3}]}},
            "again": {"type": "string", "pattern": "^b"},
            "named": {"patternProperties": {"^d": {"pattern": "^e"}}},
        },
    }
    found = [json.loads(lark.removeprefix("start: %json ")) for lark in blame.patterns(schema, {})]
    assert len(found) == 5
    assert {one["pattern"] for one in found} == {"^a", "^b", "^c", "^d", "^e"}
    assert {"pattern": "^c", "maxLength": 3} in found
