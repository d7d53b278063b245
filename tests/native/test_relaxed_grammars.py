"""Schemas that need not be followed to the letter, through admission with its real compilers: no
schema is refused, and what is left of it binds the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from sheily_native import Model
from sheily_server.chat.grammar import AnswerSchema, answer_grammar, schema_grammar
from sheily_server.chat.relaxing import FORMATS, UNFOLLOWED
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.protocol.commands import Grammar
from sheily_server.protocol.events import Admitted, Refused
from sheily_server.templates.base import Function, Offer
from sheily_server.templates.llama3 import TEMPLATE
from tests.robustness.fuzz import json_schemas
from tests.support import models
from tests.support.admission_desk import PARALLEL, Desk

Schema = dict[str, Any]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with Model(models.VOCABULARY, vocab_only=True) as model:
        desk = Desk(Tokenizer(model))
        yield desk
        desk.close()


def loose(schema: Schema) -> Grammar | None:
    return answer_grammar(AnswerSchema(schema, "s"), Offer(), None, PARALLEL)


def strict_object(**properties: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


INTEGER: Schema = {"type": "integer"}
LARGE_PRIME: Schema = {"type": "integer", "multipleOf": 9_999_991}
NO: Schema = {"type": "string", "pattern": r"(a)\1"}


A_AND_B = '{"a": "x", "b": 1}'


@pytest.mark.parametrize(
    ("schema", "places", "good", "bad"),
    [
        (strict_object(a=NO, b=INTEGER), ["properties.a.pattern"], A_AND_B, '{"b": 1}'),
        (
            strict_object(a=NO, b={"items": {"anyOf": [NO, {"type": "null"}]}, "type": "array"}),
            ["properties.a.pattern", "properties.b.items.anyOf[0].pattern"],
            '{"a": "x", "b": ["y", null]}',
            '{"a": "x", "b": [1]}',
        ),
        ({"oneOf": [INTEGER, {"type": "number"}, {"type": "null"}]}, ["oneOf"], "1.5", '"a"'),
        (
            {"oneOf": [strict_object(a=NO), strict_object(a={"type": "string"})]},
            ["oneOf[0].properties.a.pattern", "oneOf"],
            '{"a": "x"}',
            '{"a": 1}',
        ),
        ({"type": "odd", "maximum": 3}, ["type"], "3", "4"),
        (
            strict_object(a=LARGE_PRIME, b=INTEGER),
            ["properties.a.multipleOf"],
            '{"a": 3, "b": 1}',
            '{"a": "", "b": 1}',
        ),
        (
            strict_object(a={"$ref": "#/$defs/a"}) | {"$defs": {"a": LARGE_PRIME}},
            ["$defs.a.multipleOf"],
            '{"a": 3}',
            '{"a": "x"}',
        ),
        (
            strict_object(a={"$ref": "#/$defs/none"}, b=INTEGER),
            ["properties.a.$ref"],
            A_AND_B,
            '{"b": 1}',
        ),
        (strict_object(a={"enum": []}), ["properties.a.enum"], '{"a": 1}', "{}"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, ["type"], '"a"', None),
        (
            {"type": "object", "required": ["a"], "properties": {"a": False}},
            ["properties"],
            '{"a": 1}',
            "{}",
        ),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_what_cannot_be_followed_is_left_out(
    desk: Desk, schema: Schema, places: list[str], good: str, bad: str | None
) -> None:
    strict, _ = desk.ask(schema_grammar(schema, "s"))
    assert isinstance(strict, Refused)
    told, left = desk.relaxed(loose(schema))
    assert told == [f"s.{place}" for place in places]
    assert desk.allows(left, good)
    assert bad is None or not desk.allows(left, bad)


def test_a_verdict_on_what_was_relaxed_is_known_the_second_time(desk: Desk) -> None:
    schema = strict_object(a=LARGE_PRIME, b=NO)
    first = desk.relaxed(loose(schema))
    desk.trials.close()  # whoever asks anew starts another process
    assert desk.relaxed(loose(schema)) == first
    assert desk.trials._compilers is None


def grammar_of(*functions: Function, schema: AnswerSchema | None = None) -> Grammar | None:
    return answer_grammar(schema, Offer(functions, forced=schema is None), TEMPLATE.calls, PARALLEL)


def function(name: str, parameters: Schema, strict: bool = False) -> Function:
    return Function(name, parameters=parameters, strict=strict, place=f"{name}.parameters")


def test_a_strict_function_is_refused_beside_one_that_is_relaxed(desk: Desk) -> None:
    relaxed, strict = function("f", strict_object(a=NO)), function("g", strict_object(b=NO), True)
    event, _ = desk.ask(grammar_of(relaxed, strict))
    assert isinstance(event, Refused)
    assert event.param == "g.parameters.properties.b.pattern"
    told, left = desk.relaxed(grammar_of(relaxed, function("g", strict_object(b=INTEGER), True)))
    assert told == ["f.parameters.properties.a.pattern"]
    assert desk.allows(left, '{"name": "f", "parameters": {"a": "x"}}')
    assert desk.allows(left, '{"name": "g", "parameters": {"b": 1}}')
    assert not desk.allows(left, '{"name": "f", "parameters": {"b": 1}}')


def test_the_same_schema_twice_is_relaxed_twice(desk: Desk) -> None:
    parameters = strict_object(a=NO)
    told, left = desk.relaxed(grammar_of(function("f", parameters), function("g", parameters)))
    assert told == [f"{name}.parameters.properties.a.pattern" for name in "fg"]
    for name in "fg":
        assert desk.allows(left, f'{{"name": "{name}", "parameters": {{"a": "x"}}}}')
    event, _ = desk.ask(grammar_of(function("f", parameters), function("g", parameters, True)))
    assert isinstance(event, Refused)


def test_an_answer_of_a_form_or_a_call(desk: Desk) -> None:
    schema = AnswerSchema(strict_object(river={"enum": ["Ebro", "Tajo"]}), "s")
    _, left = desk.relaxed(grammar_of(function("f", strict_object(a=INTEGER), True), schema=schema))
    assert desk.allows(left, '{"name": "f", "parameters": {"a": 1}}')
    assert desk.allows(left, '{"river": "Ebro"}')
    for text in ("Ebro", '{"river": "Rin"}', BAD_CALL, "{}"):
        assert not desk.allows(left, text)


CALL, BAD_CALL = (f'{{"name": "f", "parameters": {{"a": {value}}}}}' for value in ("1", '"x"'))


@pytest.mark.parametrize(
    ("schema", "texts"),
    [
        ({"type": "object"}, ['{"river": "Ebro"}', "{}", '{"names": 1}', '{"n": {"name": 1}}']),
        ({}, ['{"river": "Ebro"}', "[1]", '"f"', "null"]),
        (strict_object(name={"type": "string"}), ['{"name": "x"}', '{"name": "f"}']),
        (
            {"anyOf": [strict_object(name={"enum": ["f", "g"]}, b=INTEGER), {"type": "null"}]},
            ['{"name": "f", "b": 1}', "null"],
        ),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_what_is_no_call_may_have_any_form(desk: Desk, schema: Schema, texts: list[str]) -> None:
    strict = function("f", strict_object(a=INTEGER), True)
    _, left = desk.relaxed(grammar_of(strict, schema=AnswerSchema(schema, "s")))
    for text in [*texts, CALL]:
        assert desk.allows(left, text), text
    assert not desk.allows(left, BAD_CALL)


def test_what_is_left_out_beforehand_is_what_the_library_cannot_follow(desk: Desk) -> None:
    for format in FORMATS:
        assert isinstance(desk.ask(schema_grammar({"format": format}, "s"))[0], Admitted)
    for keyword in UNFOLLOWED:
        event, _ = desk.ask(schema_grammar({keyword: {"type": "null"}}, "s"))
        assert isinstance(event, Refused), keyword
        assert keyword in event.message


@pytest.mark.parametrize("seed", range(30))
def test_no_schema_is_refused(desk: Desk, seed: int) -> None:
    told, left = desk.relaxed(loose(json_schemas.schema(Random(seed))))
    assert len(told) == len(set(told))
    assert left.lark.count("%json") == 1
