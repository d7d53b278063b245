"""What is left out of schemas that need not be followed to the letter, and where that is told."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.chat.grammar import check_schema
from sheily_server.chat.patterns import loosened
from sheily_server.chat.relaxing import UNFOLLOWED, relaxed
from sheily_server.chat.schema_parts import exclusive
from tests.robustness.fuzz import json_schemas

LONGEST = 2000
Schema = dict[str, Any]


def relax(schema: Schema) -> tuple[Schema, list[str]]:
    before = copy.deepcopy(schema)
    found, places = relaxed(schema, "s", LONGEST)
    assert schema == before  # it is written into the prompt as it came
    return found, places


def obj(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


INTEGER: Schema = {"type": "integer"}
STRING: Schema = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "left", "places"),
    [
        ({"type": "array", "uniqueItems": True}, {"type": "array"}, ["uniqueItems"]),
        ({"type": "array", "uniqueItems": False}, {"type": "array"}, []),
        ({"items": {"contains": {"const": 1}}}, {"items": {}}, ["items.contains"]),
        ({"minContains": 2}, {}, []),
        ({"contains": {}, "minContains": 2}, {}, ["contains", "minContains"]),
        ({"not": {"const": 1}, **INTEGER}, INTEGER, ["not"]),
        ({"if": {"const": 1}, "then": {"const": 1}, "else": {}}, {}, ["if"]),
        ({"if": {"const": 1}}, {}, []),
        ({"dependentRequired": {"a": ["b"]}}, {}, ["dependentRequired"]),
        ({"dependentSchemas": {}}, {}, []),
        ({"unevaluatedProperties": False}, {}, ["unevaluatedProperties"]),
        ({"unevaluatedProperties": True}, {}, []),
        ({"$dynamicAnchor": "a", "$dynamicRef": "#a"}, {}, ["$dynamicRef"]),
        (STRING | {"format": "password"}, STRING, ["format"]),
        (STRING | {"format": "email"}, STRING | {"format": "email"}, []),
        ({"type": ["string", "null"], "format": "uuid"}, None, []),
        ({"format": "date"}, None, []),
        (INTEGER | {"format": "int32"}, INTEGER, ["format"]),
        (INTEGER | {"format": "date"}, INTEGER, ["format"]),
        (STRING | {"format": 5}, STRING, ["format"]),
        (STRING | {"maxLength": 10_000}, STRING, ["maxLength"]),
        (STRING | {"maxLength": LONGEST}, None, []),
        (STRING | {"minLength": 1e300}, STRING, ["minLength"]),
        ({"minItems": 10**30}, {}, ["minItems"]),
        ({"maxItems": 100_000}, None, []),
        (STRING | {"pattern": "^(?!0)[0-9]+$"}, STRING | {"pattern": "^[0-9]+$"}, ["pattern"]),
        (STRING | {"pattern": "(?=.)"}, STRING, ["pattern"]),
        (STRING | {"pattern": 5}, None, []),
        (
            {"properties": {"format": {"format": "odd"}, "not": {}}},
            {"properties": {"format": {}, "not": {}}},
            ["properties.format.format"],
        ),
        (
            {"prefixItems": [{}, {"uniqueItems": True}], "items": [{"not": {"const": 1}}]},
            {"prefixItems": [{}, {}], "items": [{}]},
            ["prefixItems[1].uniqueItems", "items[0].not"],
        ),
        (
            {
                "$defs": {"a": {"format": "odd"}},
                "definitions": {"b": {"format": "odd"}},
                "patternProperties": {"^x": {"format": "odd"}},
                "additionalProperties": {"allOf": [{"format": "odd"}]},
                "$ref": "#/$defs/a",
            },
            {
                "$defs": {"a": {}},
                "definitions": {"b": {}},
                "patternProperties": {"^x": {}},
                "additionalProperties": {"allOf": [{}]},
                "$ref": "#/$defs/a",
            },
            [
                "$defs.a.format",
                "definitions.b.format",
                "patternProperties.^x.format",
                "additionalProperties.allOf[0].format",
            ],
        ),
        ({"enum": [{"format": "odd"}], "default": {"not": 1}, "const": {"not": 1}}, None, []),
        ({"const": None, "anyOf": [{"const": None}, {"const": ""}]}, None, []),
        ({"properties": 5, "anyOf": 5, "items": None, "required": 5, "type": {}}, None, []),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_what_is_left_out(schema: Schema, left: Schema | None, places: list[str]) -> None:
    assert relax(schema) == (schema if left is None else left, [f"s.{place}" for place in places])


def test_the_order_of_properties_is_kept() -> None:
    schema = obj(z=STRING | {"format": "odd"}, a=INTEGER, m={"not": {"const": 1}})
    assert list(relax(schema)[0]["properties"]) == ["z", "a", "m"]


def test_what_no_value_follows_stays_so() -> None:
    """As Zod writes `undefined` and `never`."""
    never: Schema = {"not": {}}
    found, places = relax(obj() | {"properties": {"a": never, "b": {"anyOf": [never, INTEGER]}}})
    assert found["properties"] == {"a": False, "b": {"anyOf": [False, INTEGER]}}
    assert places == []
    for schema in (obj(a=never), {"properties": {"a": {"anyOf": [never]}}}):
        assert len(relax(schema)[1]) == 1  # or no answer could follow it


@pytest.mark.parametrize(
    ("names", "left"),
    [
        ({"type": "string", "description": "any"}, {"additionalProperties": INTEGER}),
        (True, {"additionalProperties": INTEGER}),
        (
            {"enum": ["b", "a"]},
            {"additionalProperties": False, "properties": {"b": INTEGER, "a": INTEGER}},
        ),
        (
            {"$ref": "#/$defs/Color"},
            {"additionalProperties": False, "properties": {"red": INTEGER, "blue": INTEGER}},
        ),
        ({"const": "a"}, {"additionalProperties": False, "properties": {"a": INTEGER}}),
        (
            {"type": "string", "pattern": "^x"},
            {"additionalProperties": False, "patternProperties": {"^x": INTEGER}},
        ),
    ],
    ids=json.dumps,
)
def test_names_that_can_be_said_otherwise(names: Any, left: Schema) -> None:
    definitions = {"Color": {"type": "string", "enum": ["red", "blue"]}}
    schema: Schema = {
        "$defs": definitions,
        "propertyNames": names,
        "additionalProperties": INTEGER,
    }
    assert relax(schema) == ({"$defs": definitions} | left, [])


@pytest.mark.parametrize(
    "schema",
    [
        {"propertyNames": {"maxLength": 3}},
        {"propertyNames": {"pattern": "^(?=a)"}},
        {"propertyNames": {"pattern": "^a", "maxLength": 3}},
        {"propertyNames": {"pattern": "^a"}, "properties": {"a": {}}},
        {"propertyNames": {"enum": ["a"]}, "patternProperties": {"^a": {}}},
        {"propertyNames": {"enum": ["a", 1]}},
        {"propertyNames": {"$ref": "#/$defs/nowhere"}},
        {"propertyNames": {"$ref": "#"}},
        {"propertyNames": 5},
        {
            "propertyNames": {"enum": ["a"]},
            "additionalProperties": {"$ref": "#/additionalProperties/x"},
        },
    ],
    ids=json.dumps,
)
def test_names_that_cannot(schema: Schema) -> None:
    left = {keyword: value for keyword, value in schema.items() if keyword != "propertyNames"}
    assert relax(schema) == (left, ["s.propertyNames"])


def test_named_properties_are_kept_and_others_go() -> None:
    schema = obj(a=STRING) | {"propertyNames": {"enum": ["a", "b"]}}
    schema["properties"]["c"] = STRING
    assert relax(schema)[0]["properties"] == {"a": STRING, "b": {}}
    schema["additionalProperties"] = False
    assert relax(schema)[0]["properties"] == {"a": STRING}


def test_names_are_not_written_out_without_end() -> None:
    schema: Schema = {"const": "x" * 100}
    for _ in range(15):
        schema = {
            "propertyNames": {"enum": [f"n{i}" for i in range(10)]},
            "additionalProperties": schema,
        }
    found, places = relax(schema)
    assert len(json.dumps(found)) < 200_000
    assert places


CAT, DOG = obj(kind={"const": "cat"}, n=INTEGER), obj(kind={"enum": ["dog", "wolf"]})


@pytest.mark.parametrize(
    ("options", "are"),
    [
        ([INTEGER, STRING, {"type": ["null", "array"]}], True),
        ([INTEGER, {"type": "number"}], False),
        ([{"const": "a"}, {"enum": ["b", "c"]}], True),
        ([{"const": "a"}, {"enum": ["b", "a"]}], False),
        ([{"const": 1}, {"const": 1.0}], False),
        ([CAT, DOG], True),
        ([CAT, DOG, INTEGER], True),
        ([CAT, CAT], False),
        ([CAT, DOG | {"required": []}], False),
        ([CAT, {**DOG, "type": ["object", "null"]}], False),
        ([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], True),
        ([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/none"}], False),
        ([{"type": "odd"}, STRING], False),
        ([True, STRING], False),
        ([{"const": f"{i}"} for i in range(45)], True),
        ([{"enum": [f"{i}" for i in range(101)]}, {"const": "a"}], False),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_options_of_which_a_value_follows_one(options: list[Any], are: bool) -> None:
    root = {"$defs": {"cat": CAT, "dog": DOG}}
    assert exclusive(options, root) is are
    schema = {**root, "oneOf": options}
    found, places = relax(schema)
    assert ("anyOf" in found, "oneOf" in found, places) == (are, not are, [])


def test_options_are_not_compared_without_end() -> None:
    options = [{"const": f"{i}"} for i in range(40)]
    found, _ = relax({"allOf": [{"oneOf": options}, {"oneOf": options}]})
    assert ["anyOf" in part for part in found["allOf"]] == [True, False]


def test_one_of_beside_any_of_is_left_to_the_engine() -> None:
    schema: Schema = {"oneOf": [INTEGER, STRING], "anyOf": [{}]}
    assert relax(schema) == (schema, [])
    schema["oneOf"][0] = {"format": "odd"}
    assert relax(schema) == ({"anyOf": [{}]}, ["s.oneOf[0].format", "s.oneOf"])


def test_options_of_which_one_was_relaxed_may_both_be_followed() -> None:
    schema = {"oneOf": [STRING | {"format": "odd"}, STRING]}
    assert relax(schema) == ({"anyOf": [STRING, STRING]}, ["s.oneOf[0].format", "s.oneOf"])


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        (r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$", r"^[+-]?0*\d*\.?\d*$"),
        (r"^(?!\.)(?!.*\.\.)([a-z])+@x$", r"^([a-z])+@x$"),
        (r"(?<=a)(?<!(b)[)])c", "c"),
        (r"((?!ab).)*", "(.)*"),
        (r"\bword\B", "word"),
        (r"[\b(?=]\\b\(?=", r"[\b(?=]\\b\(?="),
        (r"(?:a)(?<n>b)(?i)c", r"(?:a)(?<n>b)(?i)c"),
        (r"(?=a)*b", r"(?=a)*b"),
        ("(?=a", ""),
        ("a{1,10000}b{2,3}", "a{1,}b{2,3}"),
        ("[{1,10000}]a{3000,4000}", "[{1,10000}]a{3000,4000}"),
        ("", ""),
        ("\\", "\\"),
    ],
)
def test_patterns(pattern: str, left: str) -> None:
    assert loosened(pattern, LONGEST) == left


@given(st.text(alphabet="ab(?=!<)[]\\{},1290*|^$", max_size=30))
def test_a_pattern_that_was_loosened_stays_so(pattern: str) -> None:
    once = loosened(pattern, LONGEST)
    assert len(once) <= len(pattern)


def test_a_long_pattern_is_read_once() -> None:
    """Not once for each group that is never closed."""
    assert loosened("(?=" * 20_000, LONGEST) == ""
    assert loosened("(?=a)" * 10_000, LONGEST) == ""


VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 7, 1.5, 1e15),
    *("", "a", "aaa", "ab@c.de", "2020-02-02", "123-4567", "xy" * 60),
    *([], [1], [1, 1], ["a", "a"], [1, "a", None], [[]]),
    *({}, {"a": 1}, {"a": "a", "b": "b"}, {"name": "a"}, {"a": None, "city": [1]}, {"": 1}),
]


def allows(schema: Any, value: Any) -> bool | None:
    """Whether a value follows a schema; None for a schema that is none, or that may be endless."""
    if "$ref" in json.dumps(schema):
        return None
    try:
        return bool(jsonschema.Draft202012Validator(schema).is_valid(value))
    except Exception:
        return None


@pytest.mark.parametrize("seed", range(300))
def test_what_followed_a_schema_follows_what_is_left_of_it(seed: int) -> None:
    schema = json_schemas.schema(Random(seed))
    check_schema(schema, "s")
    found, places = relax(schema)
    assert bool(places) <= (found != schema)
    for value in VALUES:
        if allows(schema, value):
            assert allows(found, value) is not False, value


def test_every_keyword_that_is_not_followed_goes() -> None:
    schema: Schema = dict.fromkeys(sorted(UNFOLLOWED), 5)
    found, places = relax(obj(a=schema))
    assert found == obj(a={})
    assert "s.properties.a.$dynamicAnchor" not in places
    assert len(places) == len(UNFOLLOWED) - 1 - 2  # `then` and `else` are a part of `if`
