"""JSON Schemas that a seed chooses: every keyword that is common, and some that are not."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Json = dict[str, Any]

_COUNTS = (0, 1, 2, 3, 10, 100, 2000, 2001)
_NUMBERS = (0, 1, -1, 0.1, -2.5, 7, 100, 1e15, -1e15, 1e308)
_NAMES = ("a", "b", "name", "city", "é", "", "a b", "$ref", "properties", 'q"q', "\n", "x" * 100)
_FORMATS = ("date-time", "date", "time", "email", "uuid", "ipv4", "ipv6", "uri", "hostname", "odd")
PATTERNS = (
    "^a+$",
    "[a-z]{2,5}",
    "^(a|b)*c",
    r"\d{3}-\d{4}",
    "(a*)*b",
    "(a+)+$",
    "x{0,2000}",
    "(x{0,50}){0,50}",
    "^.*$",
    r"\p{L}+",
    "(?=a)b",
    r"(a)\1",
    "[^\\x00-\\x1f]{1,100}",
    "(",
    "[]",
    "é|漢|😀",
)
_LEAVES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    "",
    "a",
    "é",
    'q"q',
    "\u2028",
    [],
    [1, "a"],
    {},
    {"a": 1},
)


def schema(random: Random, depth: int = 4) -> Json:
    """A schema, nested about so deep."""
    if depth <= 0:
        return random.choice(_SIMPLE)(random)
    found = random.choice(_SIMPLE + _COMPOUND * 2)(random, depth)
    if random.random() < 0.1:
        found[random.choice(("title", "description", "$comment", "x-odd"))] = random.choice(_NAMES)
    if depth == 4 and random.random() < 0.15:
        found["$defs"] = {name: schema(random, 2) for name in ("a", "b")}
        holder = found.setdefault("properties", {}) if found.get("type") == "object" else found
        references = ("#/$defs/a", "#/$defs/b", "#", "#/$defs/none", "http://example.org/a", "#a")
        if holder is found:
            holder["$ref"] = random.choice(references)
        else:
            holder["r"] = {"$ref": random.choice(references)}
    return found


def _some(random: Random, keys: dict[str, Callable[[], Any]]) -> Json:
    return {key: value() for key, value in keys.items() if random.random() < 0.25}


def _string(random: Random, depth: int = 0) -> Json:
    return {"type": "string"} | _some(
        random,
        {
            "minLength": lambda: random.choice(_COUNTS),
            "maxLength": lambda: random.choice(_COUNTS),
            "pattern": lambda: random.choice(PATTERNS),
            "format": lambda: random.choice(_FORMATS),
            "enum": lambda: [random.choice(_NAMES) for _ in range(3)],
        },
    )


def _number(random: Random, depth: int = 0) -> Json:
    return {"type": random.choice(("number", "integer"))} | _some(
        random,
        {
            "minimum": lambda: random.choice(_NUMBERS),
            "maximum": lambda: random.choice(_NUMBERS),
            "exclusiveMinimum": lambda: random.choice(_NUMBERS),
            "exclusiveMaximum": lambda: random.choice(_NUMBERS),
            "multipleOf": lambda: random.choice(_NUMBERS),
        },
    )


def _constant(random: Random, depth: int = 0) -> Json:
    if random.random() < 0.5:
        return {"const": random.choice(_LEAVES)}
    return {"enum": [random.choice(_LEAVES) for _ in range(random.choice((1, 2, 20, 200)))]}


def _other(random: Random, depth: int = 0) -> Json:
    return random.choice(
        ({}, {"type": "null"}, {"type": "boolean"}, {"type": ["string", "null"]}, {"type": "any"})
    ).copy()


def _array(random: Random, depth: int) -> Json:
    def below() -> Any:
        return schema(random, depth - 1)

    return {"type": "array"} | _some(
        random,
        {
            "items": below,
            "prefixItems": lambda: [below() for _ in range(random.choice((1, 2, 10)))],
            "minItems": lambda: random.choice(_COUNTS),
            "maxItems": lambda: random.choice(_COUNTS),
            "uniqueItems": lambda: True,
            "contains": below,
        },
    )


def _object(random: Random, depth: int) -> Json:
    def below() -> Any:
        return schema(random, depth - 1)

    names = [random.choice(_NAMES) for _ in range(random.choice((0, 1, 2, 3, 30)))]
    found: Json = {"type": "object", "properties": {name: below() for name in names}}
    return found | _some(
        random,
        {
            "required": lambda: [random.choice(_NAMES) for _ in range(2)],
            "additionalProperties": lambda: random.choice((False, True, {"type": "string"})),
            "patternProperties": lambda: {random.choice(PATTERNS): below()},
            "propertyNames": below,
            "minProperties": lambda: random.choice(_COUNTS),
            "maxProperties": lambda: random.choice(_COUNTS),
            "dependentRequired": lambda: {"a": ["b"]},
        },
    )


def _combined(random: Random, depth: int) -> Json:
    key = random.choice(("anyOf", "oneOf", "allOf"))
    found: Json = {key: [schema(random, depth - 1) for _ in range(random.choice((1, 2, 2, 4, 20)))]}
    if random.random() < 0.1:
        found[random.choice(("not", "if", "then"))] = schema(random, depth - 1)
    return found


_SIMPLE: tuple[Callable[..., Json], ...] = (_string, _number, _constant, _other)
_COMPOUND: tuple[Callable[..., Json], ...] = (_array, _object, _combined)
