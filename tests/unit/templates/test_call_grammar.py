"""What the grammars of calls let a model write, followed at random, and read back as calls."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest

from sheily_server.chat.grammar import answer_grammar
from sheily_server.chat.reader import AnswerReader
from sheily_server.engine.grammar.constraint import Grammars, Vocabulary
from sheily_server.protocol.events import ChoiceFinished, Text
from sheily_server.templates.base import Function, Offer, Template
from sheily_server.templates.lark import json_term
from sheily_server.templates.registry import TEMPLATES

END = 256
BYTES = Vocabulary([*(bytes([i]) for i in range(256)), b"<end>"], [END], [END], None)
CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 6},
        "days": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        "inside": {"type": "object", "properties": {"a": {"type": ["null", "boolean"]}}},
    },
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTIONS = (Function("weather", parameters=CITY, strict=True), Function("get-days_2"))
SCHEMAS = {function.name: function.schema() for function in FUNCTIONS}


def write(lark: str, seed: int, begin: str = "") -> str:
    """A random answer that begins as told, with letters more often than other bytes."""
    choose = random.Random(seed)
    constraint = Grammars(BYTES, 100_000).compile(lark, 0)
    written = bytearray()
    while True:
        constraint.compute_mask()
        bits = np.unpackbits(constraint.mask.view(np.uint8), bitorder="little")
        allowed = [int(token) for token in np.flatnonzero(bits)]
        if len(written) < len(begin):
            assert ord(begin[len(written)]) in allowed
            constraint.accept(ord(begin[len(written)]))
            written.append(ord(begin[len(written)]))
            continue
        if allowed == [END] or (END in allowed and choose.random() < 0.5):
            return written.decode()
        others = [token for token in allowed if token != END]
        plain = [token for token in others if chr(token) in 'ab"},];\n1']
        token = choose.choice(plain if plain and choose.random() < 0.8 else others)
        constraint.accept(token)
        written.append(token)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("several", [True, False])
def test_what_a_forced_call_may_look_like_is_read_as_it_is(
    template: Template, several: bool
) -> None:
    offer = Offer(FUNCTIONS, forced=True, several=several)
    grammar = answer_grammar(None, offer, template.calls)
    assert grammar is not None
    counts = set()
    for seed in range(12):
        text = write(grammar.lark, seed)
        reader = AnswerReader(0, offer, template.calls, bound=True)
        pieces = [piece for letter in text for piece in reader.take(Text(1, 0, letter))]
        pieces += reader.end(ChoiceFinished(id=1, choice=0, reason="stop", timed_out=False))
        assert "".join(piece.text for piece in pieces) == ""
        calls = [call for piece in pieces for call in piece.calls]
        for call in calls:
            jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])
            assert call.arguments in text
        counts.add(len(calls))
    assert min(counts) == 1
    assert (max(counts) > 1) is several


ANSWERS = (
    {"type": "object", "properties": {"c": {"type": "boolean"}}, "required": ["c"]},
    {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
)


@pytest.mark.parametrize("schema", ANSWERS)
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_an_answer_is_a_call_or_follows_the_term_of_other_answers(
    template: Template, schema: dict[str, Any]
) -> None:
    assert template.calls is not None
    closed = schema | {"additionalProperties": False}
    offer = Offer(FUNCTIONS, several=True)
    lark = template.calls.grammar(offer, json_term(closed))
    n_calls = n_texts = 0
    begin = ("<tool_call>\n" if template.name == "hermes" else "") + '{"name": "weather", "'
    for seed in range(10):
        text = write(lark, seed, begin if seed % 2 else "")
        reader = AnswerReader(0, offer, template.calls, bound=True)
        pieces = [piece for letter in text for piece in reader.take(Text(1, 0, letter))]
        pieces += reader.end(ChoiceFinished(id=1, choice=0, reason="stop", timed_out=False))
        calls = [call for piece in pieces for call in piece.calls]
        said = "".join(piece.text for piece in pieces)
        for call in calls:
            jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])
        if calls:
            assert said == ""
        else:
            assert said == text
            jsonschema.validate(json.loads(said), closed)
        n_calls += bool(calls)
        n_texts += not calls
    assert n_calls
    assert n_texts
