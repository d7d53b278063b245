"""JSON Schemas through our own check, a trial in the compilers' process and llguidance's compiler,
with the vocabulary of Llama 3, and the first tokens of an answer behind them. An input is the
schema's JSON."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from sheily_native import Model
from sheily_server.engine.__main__ import lexer_states
from sheily_server.engine.compiler import Verdict
from sheily_server.engine.constraint import ConstraintError, Grammars
from sheily_server.engine.messages import Grammar
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.engine.trials import Trials
from sheily_server.errors import ApiError
from sheily_server.schemas import check_schema, schema_grammar
from tests import models
from tests.fuzz import json_schemas
from tests.fuzz.mutate import STRINGS, VALUES, changed, mutated
from tests.fuzz.running import Target, seeds

N_TOKENS = 12
HANG_S = 60.0
"""A trial may take 1 CPU second, the search for the part to blame 2 more, on a machine that may be
busy."""


class Compilers:
    """What the engine has to honour a schema with."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        n_states = lexer_states(parallel=1)
        self.grammars = Grammars(tokenizer.vocabulary, n_states, tokenizer.encode_bytes)
        self.grammars.prepare()
        self.trials = Trials(tokenizer.vocabulary, n_states)

    def verdict(self, grammar: Grammar) -> Verdict:
        """What a trial says, which it has to in any case."""
        found: queue.SimpleQueue[Verdict | None] = queue.SimpleQueue()
        self.trials.ask(0, grammar, "", found.put)
        verdict = found.get(timeout=2 * HANG_S)
        assert verdict is not None, "the compilers' process ended"
        return verdict


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    kept = seeds("schemas")
    with Model(models.VOCABULARY, vocab_only=True) as model:
        compilers = Compilers(Tokenizer(model))
        try:
            yield Target(
                lambda random: make(random, kept), lambda data: check(data, compilers), HANG_S
            )
        finally:
            compilers.trials.close()


def check(data: bytes, compilers: Compilers) -> str:
    try:
        schema = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "no JSON"
    if not isinstance(schema, dict):
        return "no object"
    try:
        check_schema(schema, "schema")
        grammar = schema_grammar(schema, "schema")
    except ApiError as error:
        return "refused" if (error.status, error.param) == (400, "schema") else _wrong(error)
    verdict = compilers.verdict(grammar)
    if verdict.problem is not None:
        assert verdict.problem, "a refusal without its sentence"
        assert verdict.param.startswith("schema"), "a refusal without its place"
        return "too complex" if "too complex" in verdict.problem else "cannot be honoured"
    return followed(grammar, verdict, compilers.grammars, Random(data))


def followed(grammar: Grammar, verdict: Verdict, grammars: Grammars, random: Random) -> str:
    """What passed its trial is compiled again, for the answer."""
    constraint = grammars.compile(grammar.lark, verdict.n_bytes)
    try:
        for _ in range(N_TOKENS):
            if constraint.complete:
                return "followed to the end"
            constraint.compute_mask()
            token = constraint.any_allowed(random)
            assert token is not None, "no token is allowed"
            constraint.accept(token)
    except ConstraintError:
        return "too complex on the way"
    return "followed"


def _wrong(error: Exception) -> str:
    raise AssertionError("an error without its place or its sentence") from error


def make(random: Random, kept: list[bytes]) -> bytes:
    chance = random.random()
    if chance < 0.1 and kept:
        return mutated(random.choice(kept), random, kept)
    document: Any = json_schemas.schema(random, random.choice((1, 2, 4, 4)))
    for _ in range(random.choice((0, 0, 1, 1, 3))):
        document = changed(document, random, VALUES + STRINGS)
    data = json.dumps(document).encode()
    return mutated(data, random) if chance > 0.95 else data
