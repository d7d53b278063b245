"""What the grammars of calls let a model write, followed at random, and read back as calls."""

from __future__ import annotations

import json
import random

import jsonschema
import numpy as np
import pytest

from sheily_server.chat.grammar import answer_grammar
from sheily_server.chat.reader import AnswerReader
from sheily_server.engine.grammar.constraint import Grammars, Vocabulary
from sheily_server.protocol.events import ChoiceFinished, Text
from sheily_server.templates.base import Function, Offer, Template
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


def write(lark: str, seed: int) -> str:
    """A random answer, with letters more often than other bytes."""
    choose = random.Random(seed)
    constraint = Grammars(BYTES, 100_000).compile(lark, 0)
    written = bytearray()
    while True:
        constraint.compute_mask()
        bits = np.unpackbits(constraint.mask.view(np.uint8), bitorder="little")
        allowed = [int(token) for token in np.flatnonzero(bits)]
        if allowed == [END] or (END in allowed and choose.random() < 0.5):
            return written.decode()
        others = [token for token in allowed if token != END]
        plain = [token for token in others if chr(token) in 'ab"},];\n1<']
        token = choose.choice(plain if plain and choose.random() < 0.9 else others)
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
