"""JSON Schemas through our own check and llguidance's compiler, with the vocabulary of Llama 3, and
the first tokens of an answer behind them. An input is the schema's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np

from sheily_native import Model
from sheily_server.engine.constraint import ConstraintError, Grammars
from sheily_server.errors import ApiError
from sheily_server.schemas import check_schema, schema_grammar
from tests import models
from tests.fuzz import json_schemas
from tests.fuzz.mutate import STRINGS, VALUES, changed, mutated
from tests.fuzz.running import Target, seeds

N_TOKENS = 12


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    kept = seeds("schemas")
    with Model(models.VOCABULARY, vocab_only=True) as model:
        grammars = Grammars(model)
        grammars.prepare()
        yield Target(lambda random: make(random, kept), lambda data: check(data, grammars))


def check(data: bytes, grammars: Grammars) -> str:
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
    try:
        constraint = grammars.compile(grammar)
    except ConstraintError as error:
        return "cannot be honoured" if str(error) else _wrong(error)
    random = Random(data)
    try:
        for _ in range(N_TOKENS):
            if constraint.complete:
                return "followed to the end"
            bits = np.unpackbits(constraint.mask().view(np.uint8), bitorder="little")
            allowed = np.flatnonzero(bits)
            assert len(allowed), "no token is allowed"
            constraint.accept(int(random.choice(allowed)))
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
