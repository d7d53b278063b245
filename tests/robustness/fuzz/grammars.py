"""Grammars through all that stands before an answer: our own check, the admission with its real
compilers' process and the vocabulary of Llama 3, and what the engine does with what was admitted.

An input is the JSON of a schema. Behind a first line `lark` it is a grammar's text, behind `tools`
the body of a chat request.
"""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from sheily_native import Model
from sheily_server.api.openai_chat import decode
from sheily_server.chat.grammar import answer_grammar, check_schema, schema_grammar
from sheily_server.engine.admission import TRIES
from sheily_server.engine.grammar.constraint import MOST_KEPT_BYTES, Constraint
from sheily_server.engine.grammar.follower import Follower
from sheily_server.engine.grammar.forked import CPU_S, MASK_S, MEMORY, N_MASKS, PART_CPU_S, SEARCH_S
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.errors import ServiceError
from sheily_server.heap import give_back_large_blocks
from sheily_server.protocol.commands import Grammar
from sheily_server.protocol.events import Admitted, Refused
from sheily_server.templates.llama3 import TEMPLATE
from sheily_server.web.errors import kind
from tests.robustness.fuzz import hostile, json_schemas
from tests.robustness.fuzz.mutate import STRINGS, VALUES, changed, mutated
from tests.robustness.fuzz.running import HangError, Target, seeds
from tests.support import models
from tests.support.admission_desk import Desk, Verdict

HOSTILE = 0.1
"""The share of cases that are made to be costly: a second of a CPU and more for each."""

# Limits with a margin: CPU times differ with what else the cores have to do.
TRIAL_CPU_S = 1.5 * (CPU_S + SEARCH_S + PART_CPU_S)
COMPILE_CPU_S = 1.5 * CPU_S
COMPILE_TIMES, COMPILE_MORE_S = 3, 0.25
"""What compiling may take in the engine, by what the trial found: so many times as long, and this
much more."""
MASK_CPU_S = 5 * MASK_S
GROWTH = MEMORY + (16 << 20)
GROWTH_IN_SUM = MOST_KEPT_BYTES + 2 * MEMORY
WAIT_S = 90.0

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

Json = dict[str, Any]


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    give_back_large_blocks()  # as the engine does
    kept = seeds("grammars")
    with Model(models.VOCABULARY, vocab_only=True) as model:
        checker = _Checker(Tokenizer(model))
        try:
            yield Target(lambda random: make(random, kept), checker.check, WAIT_S, checker.seen)
        finally:
            checker.stop()


@dataclass
class _Costs:
    """What compiling and following a grammar took, in CPU seconds, and how it ended."""

    compile_s: float = 0.0
    mask_s: float = 0.0
    outcome: str = "followed"


class _Timed(Constraint):
    """A constraint that tells what its dearest mask cost."""

    def __init__(self, constraint: Constraint, costs: _Costs) -> None:
        super().__init__(constraint._matcher, 32 * len(constraint.mask))
        self._costs = costs

    def compute_mask(self) -> None:
        began = time.thread_time()
        super().compute_mask()
        self._costs.mask_s = max(self._costs.mask_s, time.thread_time() - began)


class _Checker:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._desk = Desk(tokenizer)
        self._desk.grammars.prepare()
        self._n = 0
        self._admitted(Grammar('start: "a"', "lark"))
        self._compilers = _compilers()
        self._bytes = _n_bytes()
        self._trial_s = self._compile_s = self._mask_s = 0.0
        self._largest = self._most = 0

    def stop(self) -> None:
        self._desk.close()

    def seen(self) -> Json:
        return {
            "dearest_trial_cpu_s": round(self._trial_s, 2),
            "dearest_compile_cpu_s": round(self._compile_s, 3),
            "dearest_mask_cpu_s": round(self._mask_s, 3),
            "largest_grammar_mib": round(self._largest / 2**20, 1),
            "most_memory_mib": round(self._most / 2**20, 1),
        }

    def check(self, data: bytes) -> str:
        try:
            grammar = _grammar(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return "no JSON"
        except ServiceError as error:
            placed = error.param or error.code == "invalid_json"
            return "refused before" if placed and kind(error).status == 400 else _wrong(error)
        if grammar is None:
            return "no grammar"
        before = _cpu_s(self._compilers)
        twin = Random(data).random() < 0.1
        event, job = self._admitted(grammar, twin)
        assert _compilers() == self._compilers, "the compilers' process is another one"
        most_s = TRIAL_CPU_S * (TRIES + 2 if grammar.loose else 1)
        self._within("_trial_s", _cpu_s(self._compilers) - before, most_s, "a trial")
        if isinstance(event, Refused):
            if twin:
                self._elsewhere(grammar)
            return _refusal(event, grammar)
        assert isinstance(event, Admitted), event
        assert job is not None
        assert job.cost is not None
        assert job.submit.grammar is not None
        return self._follow(job.submit.grammar.lark, job.cost.n_bytes, job.cost.compile_s, data)

    def _admitted(self, grammar: Grammar, twin: bool = False) -> Verdict:
        """What the admission says of a request with the grammar. Its `twin` of another caller is
        cancelled at once, of which the request is to take no notice."""
        self._n += 2
        id = self._n
        if twin:
            self._desk.take(grammar, id + 1, "other")
        self._desk.take(grammar, id, "me")
        if twin:
            self._desk.cancel(id + 1)
        while True:
            try:
                event, job = self._desk.verdict(WAIT_S)
            except queue.Empty:
                raise HangError("no answer") from None
            if event.id == id:
                return event, job

    def _elsewhere(self, grammar: Grammar) -> None:
        """The same grammar from another place of a request is refused with that place."""
        schemas = {f"other.{place}": schema for place, schema in grammar.schemas.items()}
        moved = Grammar(grammar.lark, f"other.{grammar.param}", schemas)
        event, _ = self._admitted(moved)
        if isinstance(event, Refused):  # else it was close to a limit
            _refusal(event, moved)

    def _follow(self, lark: str, n_bytes: int, trial_s: float, data: bytes) -> str:
        before = _n_bytes()
        self._largest = max(self._largest, n_bytes)
        costs = self._costs(lark, n_bytes, data)
        most_s = min(COMPILE_TIMES * trial_s + COMPILE_MORE_S, COMPILE_CPU_S)
        if costs.compile_s > most_s or costs.mask_s > MASK_CPU_S:
            again = self._costs(lark, None, data)
            costs.compile_s = min(costs.compile_s, again.compile_s)
            costs.mask_s = min(costs.mask_s, again.mask_s)
        self._within("_compile_s", costs.compile_s, most_s, f"compiling ({trial_s:.2f} s before)")
        self._within("_mask_s", costs.mask_s, MASK_CPU_S, "a mask")
        after = _n_bytes()
        self._most = max(self._most, after - self._bytes)
        assert after - before < GROWTH, f"a grammar of {(after - before) >> 20} MiB"
        assert self._most < GROWTH_IN_SUM, f"all grammars take {self._most >> 20} MiB"
        return costs.outcome

    def _costs(self, lark: str, n_bytes: int | None, data: bytes) -> _Costs:
        """Begins an answer as the engine does, on another way than the trial went. Without
        `n_bytes` nothing that is kept is used."""
        costs = _Costs()

        def compile() -> Constraint:
            began = time.thread_time()
            if n_bytes is None:
                constraint = self._desk.grammars.compile_now(lark)
            else:
                constraint = self._desk.grammars.compile(lark, n_bytes)
            costs.compile_s = time.thread_time() - began
            timed.append(_Timed(constraint, costs))
            return timed[0]

        timed: list[_Timed] = []
        random = Random(data)
        follower = Follower(compile, lambda: None, gives_way=False)
        follower.start()
        try:
            for _ in range(N_MASKS):
                if not follower.wait(WAIT_S):
                    raise HangError("no mask")
                if follower.failure is not None:
                    assert "thread failed" not in follower.failure, follower.failure
                    assert follower.failure, "an error without its sentence"
                    costs.outcome = "too complex on the way"
                    break
                if follower.complete:
                    costs.outcome = "followed to the end"
                    break
                token = timed[0].any_allowed(random)
                assert token is not None, "no token is allowed"
                follower.take(token)
        finally:
            follower.close()
        return costs

    def _within(self, name: str, seconds: float, most: float, what: str) -> None:
        setattr(self, name, max(getattr(self, name), seconds))
        assert seconds < most, f"{what} takes {seconds:.2f} s, more than {most:.2f}"


def _grammar(data: bytes) -> Grammar | None:
    """What the server sends to the engine. Raises ServiceError, and what msgspec raises for
    what is no JSON."""
    head, _, rest = data.partition(b"\n")
    if head == b"lark":
        return Grammar(rest.decode(), "lark")
    if head == b"tools":
        return answer_grammar(None, decode.offer(decode.read(rest).request), TEMPLATE.calls)
    schema = msgspec.json.decode(data)
    if not isinstance(schema, dict):
        return None
    check_schema(schema, "schema")
    return schema_grammar(schema, "schema")


def _wrong(error: Exception) -> str:
    raise AssertionError("an error without its place or its sentence") from error


_ENDINGS = {
    "to compile: it is too complex": "refused: compiling takes long",
    "of memory: it is too complex": "refused: memory",
    "of stack: it is too complex": "refused: stack",
    "it is too complex": "refused: a mask takes long",
    "ends the compiler": "refused: ends the compiler",
}


def _refusal(event: Refused, grammar: Grammar) -> str:
    """The outcome's name. Raises for one without its place or its sentence."""
    assert event.param.startswith(tuple(grammar.schemas) or grammar.param) or (
        event.param == grammar.param
    ), event
    assert len(event.message) > 40, event
    assert event.message.endswith("."), event
    assert "panic" not in event.message, event
    for ending, outcome in _ENDINGS.items():
        if event.message.endswith(ending + "."):
            return outcome
    return "refused: cannot be honoured"


def _compilers() -> int:
    """The compilers' process."""
    for path in Path("/proc/self/task").glob("*/children"):
        for pid in path.read_text().split():
            if (
                b"sheily_server.engine.grammar.compiler"
                in Path(f"/proc/{pid}/cmdline").read_bytes()
            ):
                return int(pid)
    raise AssertionError("there is no compilers' process")


def _cpu_s(pid: int) -> float:
    """Seconds of a CPU that a process and those of its children that have ended have had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_A_SECOND


def _n_bytes() -> int:
    """How much memory this process has for itself."""
    resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * _PAGE


# --- inputs ---------------------------------------------------------------------------------------


def make(random: Random, kept: list[bytes]) -> bytes:
    chance = random.random()
    if chance < 0.1 and kept:
        return mutated(random.choice(kept), random, kept)
    if chance < 0.1 + HOSTILE:
        return _hostile(random)
    if chance < 0.3:
        document = _request([_ordinary(random) for _ in range(random.choice((1, 1, 2, 5)))], random)
        return b"tools\n" + json.dumps(document).encode()
    if chance < 0.35:
        text = f"start: a b?\na: {_regex(random)}\nb: %json {json.dumps(_ordinary(random))}"
        return b"lark\n" + mutated(text.encode(), random)
    data = json.dumps(_ordinary(random)).encode()
    return mutated(data, random) if chance > 0.98 else data


def _hostile(random: Random) -> bytes:
    way = random.randrange(10)
    if way < 7:
        return json.dumps(hostile.schema(random), ensure_ascii=random.random() < 0.5).encode()
    if way < 9:
        return b"lark\n" + hostile.lark(random).encode()
    schemas = [hostile.schema(random) for _ in range(random.choice((1, 3)))]
    schemas.insert(random.randrange(len(schemas) + 1), _ordinary(random))
    return b"tools\n" + json.dumps(_request(schemas, random)).encode()


def _ordinary(random: Random) -> Any:
    document: Any = json_schemas.schema(random, random.choice((1, 2, 4, 4)))
    for _ in range(random.choice((0, 0, 0, 0, 1, 3))):
        document = changed(document, random, VALUES + STRINGS)
    return document


def _regex(random: Random) -> str:
    return f"/{random.choice(json_schemas.PATTERNS).replace('/', '')}/"


def _request(schemas: list[Any], random: Random) -> Json:
    """A chat request with functions whose parameters follow these schemas."""
    tools = [
        {
            "type": "function",
            "function": {
                "name": f"f{i}",
                "parameters": schema | {"type": "object"} if isinstance(schema, dict) else {},
                "strict": random.random() < 0.7,
            },
        }
        for i, schema in enumerate(schemas)
    ]
    chosen = {"type": "function", "function": {"name": f"f{random.randrange(len(tools))}"}}
    return {
        "messages": [{"role": "user", "content": "go"}],
        "tools": tools,
        "tool_choice": random.choice(("auto", "required", chosen)),
        "parallel_tool_calls": random.random() < 0.5,
    }
