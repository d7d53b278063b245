"""What parts of a JSON Schema allow, as far as that shows without trying values. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]

TYPES = frozenset({"null", "boolean", "number", "string", "array", "object"})
MOST_NAMES = 100
"""Most strings of a list that are looked at."""
MOST_TAGS = 8
"""Most required properties by which two options are compared."""
MOST_HOPS = 8
"""Most references that are followed one after another."""


def is_never(schema: Any) -> bool:
    """Whether no value follows a schema because all are excluded: {"not": {}}."""
    return isinstance(schema, dict) and "not" in schema and schema["not"] in ({}, True)


def resolved(schema: Any, root: Schema) -> Any:
    """Returns what a schema refers to inside `root`, or the schema itself if it is no reference.
    None for a reference to nothing or in a circle."""
    for _ in range(MOST_HOPS):
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        schema = _pointed(schema["$ref"], root)
    return None


def _pointed(reference: Any, root: Schema) -> Any:
    """Follows a JSON Pointer (RFC 6901) that begins at the root."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    value: Any = root
    for token in reference[1:].split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        value = value.get(name) if isinstance(value, dict) else None
    return value


def types_of(schema: Schema) -> frozenset[str]:
    """Returns the types of values that a schema may allow. "number" includes integers."""
    given = schema.get("type")
    named = [given] if isinstance(given, str) else given
    if not isinstance(named, list):
        return TYPES
    found = {"number" if each == "integer" else each for each in named if isinstance(each, str)}
    return TYPES & found if found <= TYPES else TYPES


def names_of(schema: Any) -> list[str] | None:
    """Returns the strings that a schema allows, if it lists them and they are few."""
    if not isinstance(schema, dict):
        return None
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list) or len(listed) > MOST_NAMES:
        return None
    if not all(isinstance(each, str) for each in listed):
        return None
    return list(dict.fromkeys(listed))


def exclusive(options: Sequence[Any], root: Schema) -> bool:
    """Whether it shows that no value follows two of the options: by their types, by the strings
    that they list, or by a required property that lists other strings in each. False when unsure.
    Compares each pair.
    """
    found = [resolved(option, root) for option in options]
    if not all(isinstance(option, dict) for option in found):
        return False
    return all(_apart(one, other, root) for one, other in itertools.combinations(found, 2))


def _apart(one: Schema, other: Schema, root: Schema) -> bool:
    if not types_of(one) & types_of(other) or _other_strings(one, other):
        return True
    if types_of(one) != {"object"} or types_of(other) != {"object"}:
        return False
    mine, theirs = _required(one), _required(other)
    return any(
        _other_strings(resolved(value, root), resolved(theirs[name], root))
        for name, value in mine.items()
        if name in theirs
    )


def _required(schema: Schema) -> Schema:
    """Returns the properties that must be there, by name."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list):
        return {}
    return {
        name: properties[name]
        for name in required[:MOST_TAGS]
        if isinstance(name, str) and name in properties
    }


def _other_strings(one: Any, other: Any) -> bool:
    mine, theirs = names_of(one), names_of(other)
    return mine is not None and theirs is not None and not set(mine) & set(theirs)
