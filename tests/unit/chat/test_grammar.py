"""The bounds of schemas, and how they are written into a grammar."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.chat import grammar as schemas
from sheily_server.chat.grammar import AnswerSchema, answer_grammar, check_schema, schema_grammar
from sheily_server.errors import ServiceError
from sheily_server.templates.base import Offer
from sheily_server.templates.lark import json_term
from sheily_server.web.errors import kind


def nested(depth: int) -> dict[str, Any]:
    """A schema of so many levels, itself the first."""
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def sized(n_bytes: int) -> dict[str, Any]:
    return {"description": "x" * (n_bytes - len(json.dumps({"description": ""})))}


def wide(n_parts: int) -> dict[str, Any]:
    """A schema of so many objects and lists."""
    return {"anyOf": [{} for _ in range(n_parts - 2)]}


def refused(schema: dict[str, Any]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        check_schema(schema, "here")
    error = caught.value
    assert (kind(error).status, error.param, error.code) == (400, "here", "invalid_value")
    return error


@pytest.mark.parametrize(
    ("taken", "one_more", "word"),
    [
        (nested(schemas.MAX_DEPTH), nested(schemas.MAX_DEPTH + 1), "deeper"),
        (wide(schemas.MAX_NODES), wide(schemas.MAX_NODES + 1), "parts"),
        (sized(schemas.MAX_BYTES), sized(schemas.MAX_BYTES + 1), "larger"),
    ],
    ids=["depth", "parts", "bytes"],
)
def test_bounds(taken: dict[str, Any], one_more: dict[str, Any], word: str) -> None:
    check_schema(taken, "here")
    assert word in refused(one_more).message


@pytest.mark.parametrize(
    "costly",
    [
        {"minItems": 10**30},
        {"maxLength": 1e300},
        {"multipleOf": 9999991},
        {"pattern": "((a{1,9}){1,9}){1,9999}" + "a" * 5000},
        {"pattern": 5},
        {"patternProperties": {"a{ 100000 }": {}}},
        {"allOf": [{"pattern": f"^(a|b){{0,{i}}}"} for i in range(100)]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    ],
)
def test_what_a_schema_costs_is_found_out_elsewhere(costly: dict[str, Any]) -> None:
    check_schema(costly, "here")
    check_schema({"items": costly}, "here")


@pytest.mark.parametrize("depth", [500, 990, sys.getrecursionlimit(), 50_000])
def test_a_schema_that_is_far_too_deep(depth: int) -> None:
    refused(nested(depth))


def test_characters_count_as_they_are_written() -> None:
    refused({"description": "\U0001f600" * (schemas.MAX_BYTES // 12)})


def test_a_schema_that_is_far_too_wide() -> None:
    refused({"enum": [[]] * 1_000_000})


def test_the_layout_of_json_is_not_the_caller_s_to_say() -> None:
    schema = {"type": "object", "x-guidance": {"whitespace_pattern": ".*", "item_separator": "a"}}
    written = json.loads(json_term(schema).removeprefix("%json "))
    assert written["type"] == "object"
    assert written["x-guidance"] == {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
    }
    assert schema["x-guidance"] == {"whitespace_pattern": ".*", "item_separator": "a"}


def followed(schema: dict[str, Any]) -> Any:
    """What the grammar of a strict answer says of it."""
    answer = AnswerSchema(schema, "s", strict=True)
    found = answer_grammar(answer, Offer(), None)
    assert found is not None
    assert (found.loose, found.relaxed) == ([], [])
    return json.loads(found.schemas["s"])


def test_names_that_a_strict_schema_lists_are_followed() -> None:
    digit = {"type": "integer", "minimum": 0, "maximum": 9}
    record = {
        "type": "object",
        "propertyNames": {"type": "string", "enum": ["a", "b"]},
        "additionalProperties": digit,
        "required": ["a", "b"],
    }
    assert followed(record) == {
        "type": "object",
        "properties": {"a": digit, "b": digit},
        "additionalProperties": False,
        "required": ["a", "b"],
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"propertyNames": {"enum": ["a"]}, "uniqueItems": True},
        {"propertyNames": {"maxLength": 3}},
        {"oneOf": [{"type": "string"}, {"type": "null"}], "maxLength": 9000},
    ],
)
def test_of_a_strict_schema_nothing_is_left_out(schema: dict[str, Any]) -> None:
    assert followed(schema) == schema


names = st.text(max_size=8) | st.sampled_from(['"""', "%json {}", "\nstart: /.*/", "x-guidance"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names, values, max_size=4))
def test_a_schema_is_one_line_of_ascii_whatever_it_says(schema: dict[str, Any]) -> None:
    grammar = schema_grammar(schema, "here")
    assert grammar.param == "here"
    head, keyword, written = grammar.lark.partition("%json ")
    assert (head, keyword) == ("start: ", "%json ")
    assert written.isascii()
    assert "\n" not in written
    found = json.loads(written)
    del found["x-guidance"]
    assert found == {name: value for name, value in schema.items() if name != "x-guidance"}
