"""What is left of a grammar without the parts to blame."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import jsonschema
import pytest

from sheily_server.engine.grammar.blame import Fault, Schema, find
from sheily_server.engine.grammar.looser import looser
from sheily_server.protocol.commands import Grammar
from sheily_server.templates.lark import json_term
from tests.robustness.fuzz import json_schemas
from tests.unit.chat.test_relaxing import VALUES, allows


def grammar(*schemas: Schema, strict: tuple[int, ...] = ()) -> Grammar:
    """A grammar whose schemas have the places s0, s1 and so on."""
    return Grammar(
        " | ".join(map(json_term, schemas)),
        "p",
        {f"s{i}": json.dumps(schema) for i, schema in enumerate(schemas)},
        loose=[f"s{i}" for i in range(len(schemas)) if i not in strict],
    )


def without(schema: Schema, *path: str | int) -> Schema:
    found = looser(grammar(schema), [Fault("s0", [*path])])
    assert found is not None
    [text] = found.schemas.values()
    left: Schema = json.loads(text)
    assert found.lark == json_term(left)
    return left


@pytest.mark.parametrize(
    ("schema", "path", "left"),
    [
        ({"type": "string", "pattern": "a"}, ["pattern"], {"type": "string"}),
        ({"type": "string", "pattern": "a"}, ["type"], {"pattern": "a"}),
        ({"type": "string", "pattern": "a"}, [], {"type": "string"}),
        ({"type": ["string", "null"], "pattern": "a"}, [], {}),
        ({"type": "odd", "pattern": "a"}, [], {}),
        ({"type": "object", "required": []}, ["type"], {"type": "object"}),
        ({"oneOf": [{}, {}]}, ["oneOf"], {"anyOf": [{}, {}]}),
        ({"oneOf": [{}, {}], "anyOf": [{}]}, ["oneOf"], {"anyOf": [{}]}),
        (
            {"properties": {"a": {}}, "additionalProperties": False, "required": ["a"]},
            ["properties"],
            {"required": ["a"]},
        ),
        ({"prefixItems": [{}], "items": False, "minItems": 1}, ["prefixItems"], {"minItems": 1}),
        ({"items": [{}], "additionalItems": False}, ["items"], {}),
        (
            {"properties": {"items": {"items": {"format": "x"}}, "b": {}}},
            ["properties", "items", "items", "format"],
            {"properties": {"items": {"items": {}}, "b": {}}},
        ),
        (
            {"anyOf": [{}, {"items": [{"type": "null", "format": "x"}]}]},
            ["anyOf", 1, "items", 0],
            {"anyOf": [{}, {"items": [{"type": "null"}]}]},
        ),
        ({"$defs": {"a": {"enum": []}}, "$ref": "x"}, ["$defs", "a", "enum"], None),
    ],
)
def test_a_part_is_taken_out(schema: Schema, path: list[str | int], left: Schema | None) -> None:
    expected = {"$defs": {"a": {}}, "$ref": "x"} if left is None else left
    assert without(schema, *path) == expected


def test_places_are_told_once_each() -> None:
    faults = [Fault("s0", ["a"]), Fault("s1", ["anyOf", 1, "x" * 200])]
    first = grammar({"a": 1, "b": 1}, {"anyOf": [{}, {"x" * 200: 1}]})
    second = looser(first, faults)
    assert second is not None
    assert second.relaxed == ["s0.a", f"s1.anyOf[1].{'x' * 100}"]
    third = looser(second, [Fault("s0", ["b"])])
    assert third is not None
    assert third.relaxed == [*second.relaxed, "s0.b"]


def test_schemas_that_are_alike_are_relaxed_together() -> None:
    both = grammar({"a": 1, "b": 1}, {"a": 1, "b": 1})
    found = looser(both, [Fault("s0", ["a"]), Fault("s1", ["a"])])
    assert found is not None
    assert (found.schemas, found.relaxed) == (
        dict.fromkeys(("s0", "s1"), '{"b": 1}'),
        ["s0.a", "s1.a"],
    )
    assert found.lark == grammar({"b": 1}, {"b": 1}).lark


@pytest.mark.parametrize("strict", [(0,), (1,), (0, 1)])
def test_none_that_must_be_followed_is_relaxed(strict: tuple[int, ...]) -> None:
    alike = grammar({"a": 1}, {"a": 1}, strict=strict)
    assert looser(alike, [Fault("s0", ["a"])]) is None
    assert looser(grammar({"a": 1}, {"b": 1}, strict=(0,)), [Fault("s0", ["a"])]) is None


def test_a_part_that_went_with_another_is_no_matter() -> None:
    faults = [Fault("s0", ["properties", "a"]), Fault("s0", ["properties", "a", "enum"])]
    found = looser(grammar({"properties": {"a": {"enum": []}}}), faults)
    assert found is not None
    assert json.loads(found.schemas["s0"]) == {"properties": {"a": {}}}


def test_when_nothing_is_left_to_take_out_there_is_no_looser_one() -> None:
    for schema in ({}, {"type": "object"}):
        assert looser(grammar(schema), ()) is None
        assert looser(grammar(schema), [Fault("s0")]) is None
    assert looser(grammar({"a": 1}, strict=(0,)), ()) is None


def test_what_looks_like_a_schema_in_a_string_stays() -> None:
    schema: dict[str, Any] = {"enum": [json_term({"a": 1}), "%json {}"]}
    found = looser(grammar({"a": 1}, schema), [Fault("s0", ["a"])])
    assert found is not None
    assert found.lark == grammar({}, schema).lark


@pytest.mark.parametrize("seed", range(300))
def test_what_followed_a_schema_follows_the_looser_one(seed: int) -> None:
    random = Random(seed)
    schema = json_schemas.schema(random)
    faults = find(grammar(schema), lambda part, root: random.random() < 0.5, most=3)
    found = looser(grammar(schema), faults)
    if found is None:
        return
    left = json.loads(found.schemas["s0"])
    if any(
        keyword in found.schemas["s0"] for keyword in ('"oneOf"', '"not"', '"if"', '"contains"')
    ):
        return  # a part of these that allows more makes the whole allow less: they are gone by then
    for value in VALUES:
        if allows(schema, value):
            assert allows(left, value) is not False, value


def test_the_check_can_fail() -> None:
    assert allows({"type": "string"}, 1) is False
    assert jsonschema.Draft202012Validator({}).is_valid(1)
