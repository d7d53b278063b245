"""The bounds of schemas, and how they are written into a grammar."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server import schemas
from sheily_server.errors import ApiError
from sheily_server.schemas import check_schema, schema_fragment, schema_grammar


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


def refused(schema: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        check_schema(schema, "here")
    error = caught.value
    assert (error.status, error.param, error.code) == (400, "here", "invalid_value")
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
    "name",
    ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"],
)
def test_counts(name: str) -> None:
    for place in (lambda s: s, lambda s: {"items": s}, lambda s: {"anyOf": [{}, {"not": s}]}):
        check_schema(place({name: schemas.MAX_REPETITION}), "here")
        for value in (schemas.MAX_REPETITION + 1, schemas.MAX_REPETITION + 0.5, 10**30, 1e300):
            message = refused(place({name: value})).message
            assert name in message
            assert len(message) < 400


def by_pattern(pattern: str) -> list[dict[str, Any]]:
    """Schemas with a pattern in each of the places that there are for it."""
    return [
        {"pattern": pattern},
        {"items": {"type": "string", "pattern": pattern}},
        {"patternProperties": {pattern: {}}},
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "a" * schemas.MAX_PATTERN,
        f"a{{{schemas.MAX_REPETITION}}}",
        "a{1,2000}b{,9999}",
        r"a\{9999}",
        "{x}",
    ],
)
def test_patterns_that_are_taken(pattern: str) -> None:
    for schema in by_pattern(pattern):
        check_schema(schema, "here")


@pytest.mark.parametrize(
    "pattern",
    [
        "a" * (schemas.MAX_PATTERN + 1),
        "a{2001}",
        "a{1,2001}",
        "a{2001,}",
        r"\\{2001}",
        "((a{1,9}){1,9}){1,%s}" % ("9" * 500),
    ],
)
def test_patterns_that_are_refused(pattern: str) -> None:
    for schema in by_pattern(pattern):
        message = refused(schema).message
        assert "pattern" in message
        assert len(message) < 400


def test_what_is_no_pattern_is_the_engine_s_to_refuse() -> None:
    wrong: list[dict[str, Any]] = [{"pattern": 5}, {"patternProperties": 5}]
    for schema in wrong:
        check_schema(schema, "here")


def test_a_property_may_have_the_name_of_a_count() -> None:
    check_schema({"properties": {"maxItems": {"type": "integer"}}}, "here")


@pytest.mark.parametrize("depth", [500, 990, sys.getrecursionlimit(), 50_000])
def test_a_schema_that_is_far_too_deep(depth: int) -> None:
    refused(nested(depth))


def test_characters_count_as_they_are_written() -> None:
    refused({"description": "\U0001f600" * (schemas.MAX_BYTES // 12)})


def test_a_schema_that_is_far_too_wide() -> None:
    refused({"enum": [[]] * 1_000_000})


def test_the_layout_of_json_is_not_the_caller_s_to_say() -> None:
    schema = {"type": "object", "x-guidance": {"whitespace_pattern": ".*", "item_separator": "a"}}
    written = json.loads(schema_fragment(schema).removeprefix("%json "))
    assert written["type"] == "object"
    assert written["x-guidance"] == {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
    }
    assert schema["x-guidance"] == {"whitespace_pattern": ".*", "item_separator": "a"}


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


def patterns(n: int) -> list[dict[str, Any]]:
    return [{"type": "string", "pattern": f"^(a|b){{0,{i}}}"} for i in range(n)]


def chain(n: int) -> dict[str, Any]:
    """A pattern and a choice of what has a pattern and a choice, and so on: n patterns in all."""
    schema: dict[str, Any] = {"pattern": "a"}
    for _ in range(n - 1):
        schema = {"pattern": "a", "anyOf": [schema, {"type": "string"}]}
    return schema


def references(n: int) -> dict[str, Any]:
    """Each of n definitions has a pattern and is the next one too."""
    links = {str(i): {"pattern": "a", "$ref": f"#/$defs/{i + 1}"} for i in range(n - 1)}
    return {"$ref": "#/$defs/0", "$defs": links | {str(n - 1): {"pattern": "a"}}}


@pytest.mark.parametrize(
    "made",
    [
        lambda n: {"allOf": patterns(n)},
        lambda n: {"items": {"properties": {"x": {"allOf": patterns(n)}}}},
        lambda n: {"pattern": "a", "allOf": patterns(n - 1)},
        lambda n: {"allOf": [{"properties": {"x": one}} for one in patterns(n)]},
        lambda n: {"allOf": [{"anyOf": [one, {}]} for one in patterns(n)]},
        lambda n: {"allOf": [*patterns(n - 1), {"type": "string", "format": "date"}]},
        lambda n: {"allOf": [{"$ref": f"#/a~1b/{i}"} for i in range(n)], "a/b": patterns(n)},
        chain,
        references,
    ],
    ids=["all", "inside", "beside", "properties", "any", "format", "refs", "chain", "references"],
)
def test_patterns_that_meet(made: Callable[[int], dict[str, Any]]) -> None:
    check_schema(made(schemas.MAX_MEETING_PATTERNS), "here")
    assert "at once" in refused(made(schemas.MAX_MEETING_PATTERNS + 1)).message


def test_patterns_that_do_not_meet_may_be_many() -> None:
    many = patterns(50)
    check_schema({"anyOf": many}, "here")
    check_schema({"properties": {str(i): one for i, one in enumerate(many)}}, "here")
    required = [{"required": [name]} for name in ("a", "b")]
    check_schema(
        {"properties": dict(zip("abcdefghijkl", many[:12], strict=True)), "anyOf": required}, "here"
    )
    check_schema({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": many}}}, "here")


def test_references_to_nothing_and_in_circles() -> None:
    for reference in (
        "#",
        "#/none",
        "#/allOf/9",
        "#/allOf/" + "9" * 5000,
        "#/allOf/x",
        "#/allOf/0",
        "elsewhere",
        "",
        "#x",
    ):
        check_schema({"pattern": "a", "allOf": [{"$ref": reference}]}, "here")
    check_schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "here")


def test_a_long_chain_of_references() -> None:
    def links(n: int) -> dict[str, Any]:
        defined = {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(n - 1)}
        return {"$ref": "#/$defs/0", "$defs": defined | {str(n - 1): {}}}

    check_schema(links(schemas.MAX_REFERRED_DEPTH - 1), "here")
    for n in (schemas.MAX_REFERRED_DEPTH, schemas.MAX_NODES - 10):
        assert "references" in refused(links(n)).message
