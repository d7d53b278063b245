"""Grammars tried by the real compilers' process, with the vocabulary of Llama 3: what is costly is
refused with its place, whoever sent something else is answered meanwhile, and the process is there
afterwards."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sheily_native import Model
from sheily_server.chat.grammar import schema_grammar
from sheily_server.engine.__main__ import lexer_states
from sheily_server.engine.grammar.compiler import AT_ONCE, Verdict
from sheily_server.engine.grammar.constraint import Grammars, Vocabulary
from sheily_server.engine.grammar.follower import Follower
from sheily_server.engine.grammar.trials import Trials
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.protocol.commands import Grammar
from tests.support import models

PATIENCE_S = 100
N_STATES = lexer_states(parallel=1)
LARGE_PRIME = {"type": "integer", "multipleOf": 9_999_991}
LONG = "^" + "x{2000}" * 140 + "$"
ORDINARY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
        "many": {"type": "array", "items": {"type": "integer", "multipleOf": 5}},
    },
    "required": ["name", "code", "many"],
    "additionalProperties": False,
}


class Asking:
    """Grammars that are tried, and what came of them in the order in which it came."""

    def __init__(self, vocabulary: Vocabulary, idle_s: float = 1000) -> None:
        self.trials = Trials(vocabulary, N_STATES, idle_s)
        self.found: queue.SimpleQueue[tuple[int, Verdict | None]] = queue.SimpleQueue()
        self.order: list[int] = []
        self._n = 0

    def begin(self, grammar: Grammar, caller: str = "me") -> int:
        """Returns what is asked for its number."""
        self._n += 1
        number = self._n
        self.trials.ask(number, grammar, caller, lambda found: self.found.put((number, found)))
        return number

    def wait(self, *numbers: int) -> dict[int, Verdict | None]:
        verdicts: dict[int, Verdict | None] = {}
        while not set(numbers) <= set(verdicts):
            number, verdict = self.found.get(timeout=PATIENCE_S)
            verdicts[number] = verdict
            self.order.append(number)
        return verdicts

    def ask(self, schema: Any, caller: str = "me") -> Verdict:
        number = self.begin(schema_grammar(schema, "schema"), caller)
        verdict = self.wait(number)[number]
        assert verdict is not None
        return verdict

    def assert_serves(self) -> None:
        """An ordinary schema that was never asked for passes."""
        assert self.ask(ORDINARY | {"title": f"number {self._n}"}).problem is None


@pytest.fixture(scope="module")
def words() -> Iterator[Tokenizer]:
    with Model(models.VOCABULARY, vocab_only=True) as model:
        yield Tokenizer(model)


@pytest.fixture(scope="module")
def asking(words: Tokenizer) -> Iterator[Asking]:
    """One process for all tests that do not end it."""
    asking = Asking(words.vocabulary)
    yield asking
    asking.trials.close()


@pytest.fixture
def own(words: Tokenizer) -> Iterator[Asking]:
    asking = Asking(words.vocabulary)
    yield asking
    asking.trials.close()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The compilers' processes that are started."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr("sheily_server.engine.grammar.trials.subprocess.Popen", start)
    return started


def different(i: int) -> dict[str, Any]:
    """A schema that is over a limit, and none like another."""
    return {"type": "integer", "multipleOf": 9_999_991 - 2 * i}


def loop(depth: int) -> dict[str, Any]:
    """References that lead back, each time with one more pattern to match."""
    definitions: dict[str, Any] = {
        f"d{i}": {
            "type": "string",
            "allOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"pattern": f"[ab]*a[ab]{{{10 + i}}}x?[cd]"}],
        }
        for i in range(depth)
    }
    definitions[f"d{depth}"] = {"type": "string"}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


HOSTILE: dict[str, tuple[Any, str]] = {
    "multiple of a large prime": (LARGE_PRIME, "schema.multipleOf"),
    "20 properties of it": (
        {"type": "object", "properties": {f"p{i}": LARGE_PRIME for i in range(20)}},
        "schema.properties.p0.multipleOf",
    ),
    "any of 20 of it": (
        {"anyOf": [different(i) for i in range(20)]},
        "schema.anyOf[0].multipleOf",
    ),
    "140 times 2000": ({"type": "string", "pattern": LONG}, "schema.pattern"),
    "blanks in a count": ({"type": "string", "pattern": "^a{ 100000 }$"}, "schema.pattern"),
    "behind a text": (
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string", "pattern": LONG}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
        "schema.properties.b.pattern",
    ),
    "in a name": (
        {"type": "object", "patternProperties": {"^a{100000}$": {"type": "null"}}},
        "schema.patternProperties",
    ),
    "references that unroll": (loop(19), "schema.$"),
    "deep inside": (
        {"properties": {"a": {"items": {"anyOf": [{"type": "null"}, LARGE_PRIME]}}}},
        "schema.properties.a.items.anyOf[1].multipleOf",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_costly_is_refused_with_its_place(asking: Asking, name: str) -> None:
    schema, place = HOSTILE[name]
    verdict = asking.ask(schema)
    assert verdict.problem is not None
    assert verdict.problem.endswith("it is too complex")
    assert len(verdict.problem) < 200
    if place.endswith("$"):
        assert verdict.param.startswith(place)
    else:
        assert verdict.param == place
        assert place.rpartition(".")[2] in verdict.problem
    asking.assert_serves()


def chain(length: int) -> dict[str, Any]:
    """Schemas of which each refers to the next one."""
    definitions: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(length)}
    definitions[f"d{length}"] = {"type": "string"}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize("length", [10, 100, 1000, 2000])
def test_a_chain_of_references_ends_no_process(
    asking: Asking, words: Tokenizer, length: int
) -> None:
    """What passes is compiled here, too, on a thread that has less stack than the main one."""
    grammar = schema_grammar(chain(length), "schema")
    number = asking.begin(grammar)
    verdict = asking.wait(number)[number]
    assert verdict is not None
    assert (verdict.problem is None) or length > 100
    if verdict.problem is None:
        grammars = Grammars(words.vocabulary, N_STATES, words.encode_bytes)
        follower = Follower(lambda: grammars.compile(grammar.lark, 0), lambda: None, False)
        follower.start()
        assert follower.wait(PATIENCE_S)
        assert follower.failure is None
        follower.close()
    asking.assert_serves()


def test_the_same_schema_elsewhere_has_its_own_place(asking: Asking) -> None:
    schema = {"type": "object", "properties": {"a": LARGE_PRIME}}
    for param in ("response_format", "tools[3].function.parameters"):
        number = asking.begin(schema_grammar(schema, param))
        verdict = asking.wait(number)[number]
        assert verdict is not None
        assert verdict.param == f"{param}.properties.a.multipleOf"


@pytest.mark.parametrize(
    "lark",
    [
        "start: a\na: (b b b b){2000}\nb: (c c c c){2000}\nc: /x{2000}/",
        "start: /(x{2000}){2000}/",
        f'start: "go" %json {{"type": "integer", "multipleOf": {LARGE_PRIME["multipleOf"]}}}',
    ],
)
def test_a_grammar_without_schemas_is_refused_as_a_whole(asking: Asking, lark: str) -> None:
    number = asking.begin(Grammar(lark, "tools"))
    verdict = asking.wait(number)[number]
    assert verdict is not None
    assert (verdict.param, verdict.problem is None) == ("tools", False)
    assert (verdict.problem or "").endswith("it is too complex")
    asking.assert_serves()


def test_of_several_schemas_in_a_grammar_the_costly_one_is_named(asking: Asking) -> None:
    schemas = {"tools[0]": {"type": "object"}, "tools[1]": {"items": LARGE_PRIME}}
    texts = {place: json.dumps(schema) for place, schema in schemas.items()}
    lark = "start: {}".format(" | ".join(f"%json {text}" for text in texts.values()))
    number = asking.begin(Grammar(lark, "tools", texts))
    verdict = asking.wait(number)[number]
    assert verdict is not None
    assert verdict.param == "tools[1].items.multipleOf"


def test_an_ordinary_schema_passes(asking: Asking, words: Tokenizer) -> None:
    verdict = asking.ask(ORDINARY)
    assert (verdict.problem, verdict.param) == (None, "schema")
    grammars = Grammars(words.vocabulary, N_STATES, words.encode_bytes)
    constraint = grammars.compile(schema_grammar(ORDINARY, "schema").lark, verdict.n_bytes)
    for token in words.encode_slice('{"name": "x", "code": "ABC-1234", "many": [5, 10]}'):
        constraint.compute_mask()
        if constraint.mask[token // 32] >> token % 32 & 1:
            constraint.accept(token)
    assert constraint.complete


def test_many_ordinary_patterns_pass(asking: Asking) -> None:
    patterns = {f"p{i}": {"type": "string", "pattern": f"^[a-z]{{2,{i + 3}}}$"} for i in range(60)}
    assert asking.ask({"type": "object", "properties": patterns}).problem is None


def test_a_pattern_without_anchors_that_costs_nothing_passes(asking: Asking) -> None:
    for pattern in ("x{2000}" * 140, "a{ 100000 }"):
        assert asking.ask({"type": "string", "pattern": pattern}).problem is None


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "bogus"}, "schema.type"),
        ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, "schema.properties.a"),
        ({"anyOf": [{"type": "null"}, {"type": "string", "pattern": "(?=a)b"}]}, "schema.anyOf[1]"),
    ],
)
def test_what_cannot_be_honoured_has_its_place(asking: Asking, schema: Any, place: str) -> None:
    verdict = asking.ask(schema)
    assert verdict.problem
    assert "complex" not in verdict.problem
    assert verdict.param.startswith(place)


def test_a_verdict_is_known_the_second_time(
    own: Asking, processes: list[subprocess.Popen[bytes]]
) -> None:
    first = [own.ask(LARGE_PRIME), own.ask(ORDINARY)]
    own.trials.close()
    assert [own.ask(LARGE_PRIME, "other"), own.ask(ORDINARY, "other")] == first
    assert len(processes) == 1  # nobody had to be asked


def test_who_asks_for_what_is_being_tried_waits_for_it(own: Asking) -> None:
    numbers = [own.begin(schema_grammar(LARGE_PRIME, "schema"), f"c{i}") for i in range(5)]
    verdicts = own.wait(*numbers)
    assert len({None if verdict is None else verdict.id for verdict in verdicts.values()}) == 1


def test_others_are_answered_while_hostile_grammars_are_tried(own: Asking) -> None:
    own.ask({"type": "null"})  # the process is there
    hostile = [own.begin(schema_grammar(different(i), "schema"), "hostile") for i in range(8)]
    good = [
        own.begin(schema_grammar(ORDINARY | {"title": f"{i}"}, "schema"), "good") for i in range(3)
    ]
    verdicts = own.wait(*hostile, *good)
    assert all(verdict is not None for verdict in verdicts.values())
    assert [verdict.problem for n, verdict in verdicts.items() if verdict and n in good] == [
        None
    ] * 3
    assert all(verdict.problem for n, verdict in verdicts.items() if verdict and n in hostile)
    last_good = max(map(own.order.index, good))
    assert last_good < max(map(own.order.index, hostile))


def slow_trials(pid: int) -> int:
    """How many children of the process are nicer than it is."""
    n, own = 0, os.getpriority(os.PRIO_PROCESS, pid)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        n += int(fields[1]) == pid and fields[0] not in "ZX" and int(fields[16]) > own
    return n


@pytest.mark.parametrize(("n_callers", "most"), [(1, 1), (4, AT_ONCE)])
def test_slow_trials_at_the_same_time(
    own: Asking, processes: list[subprocess.Popen[bytes]], n_callers: int, most: int
) -> None:
    own.ask({"type": "null"})
    if os.getpriority(os.PRIO_PROCESS, processes[0].pid) == 19:
        pytest.skip("nothing can be nicer")
    numbers = [
        own.begin(schema_grammar(different(i), "schema"), f"caller {i % n_callers}")
        for i in range(3)
    ]
    seen: list[int] = []
    enough = threading.Event()

    def look() -> None:
        while not enough.wait(0.01):
            seen.append(slow_trials(processes[0].pid))

    thread = threading.Thread(target=look)
    thread.start()
    own.wait(*numbers)
    enough.set()
    thread.join()
    assert 1 <= max(seen) <= most


def test_who_leaves_is_not_waited_for(own: Asking) -> None:
    own.ask({"type": "null"})
    left = [own.begin(schema_grammar(different(i), "schema")) for i in range(10)]
    for number in left:
        own.trials.forget(number)
    own.ask(ORDINARY)
    own.ask(LARGE_PRIME | {"title": "another"})  # for which there is room at once
    assert not set(left) & set(own.order)
    assert own.found.empty()


def test_the_process_ends_when_it_is_idle_and_comes_back(
    words: Tokenizer, processes: list[subprocess.Popen[bytes]]
) -> None:
    asking = Asking(words.vocabulary, idle_s=0.01)
    asking.trials.start()
    for i in range(3):
        assert asking.ask(ORDINARY | {"title": f"{i}"}).problem is None
        assert len(processes) <= 2 * (i + 1)
        wait_for_end(processes[-1])
        assert processes[-1].returncode == 0
    assert asking.ask(LARGE_PRIME).problem is not None  # which takes longer than it may be idle
    asking.trials.close()


def test_nobody_notices_that_the_process_was_about_to_end(
    words: Tokenizer, processes: list[subprocess.Popen[bytes]]
) -> None:
    asking = Asking(words.vocabulary, idle_s=0.0005)
    for i in range(40):
        time.sleep(0.0005 * (i % 5))
        assert asking.ask(ORDINARY | {"title": f"{i}"}).problem is None
        if len(processes) > 5:
            break
    assert len(processes) > 1
    asking.trials.close()
    for process in processes:
        wait_for_end(process)


def wait_for_end(process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_process_that_was_killed_is_replaced(
    own: Asking, processes: list[subprocess.Popen[bytes]]
) -> None:
    own.ask(ORDINARY)
    waiting = [own.begin(schema_grammar(different(i), "schema")) for i in range(3)]
    processes[0].kill()
    assert own.wait(*waiting) == dict.fromkeys(waiting)
    own.assert_serves()
    assert len(processes) == 2


def test_a_trial_that_was_killed_is_tried_anew(
    own: Asking, processes: list[subprocess.Popen[bytes]]
) -> None:
    own.ask(ORDINARY)
    number = own.begin(schema_grammar(LARGE_PRIME, "schema"))
    children = Path(f"/proc/{processes[0].pid}/task/{processes[0].pid}/children")
    end = time.monotonic() + PATIENCE_S
    while not (pids := children.read_text().split()):
        assert time.monotonic() < end
    os.kill(int(pids[0]), signal.SIGKILL)
    verdict = own.wait(number)[number]
    assert verdict is not None
    assert (verdict.problem, verdict.failure) == (None, "was killed")
    verdict = own.ask(LARGE_PRIME)
    assert verdict.problem is not None
    assert "too complex" in verdict.problem


def test_what_is_forked_has_no_other_threads(
    own: Asking, processes: list[subprocess.Popen[bytes]]
) -> None:
    """A lock that one of them holds would never be given back in the fork."""
    own.ask(ORDINARY)
    assert os.listdir(f"/proc/{processes[0].pid}/task") == [str(processes[0].pid)]


def test_who_waits_when_all_ends_is_told(own: Asking) -> None:
    waiting = [own.begin(schema_grammar(different(i), "schema")) for i in range(3)]
    own.trials.close()
    assert own.wait(*waiting) == dict.fromkeys(waiting)


def test_signals_of_the_terminal_do_not_end_it(
    own: Asking, processes: list[subprocess.Popen[bytes]]
) -> None:
    own.ask(ORDINARY)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(processes[0].pid, number)
    assert own.ask(LARGE_PRIME).problem is not None
    assert len(processes) == 1
