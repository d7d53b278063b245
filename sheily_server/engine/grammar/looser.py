"""Takes the parts to blame out of those schemas of a grammar that may be relaxed. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from ...protocol.commands import Grammar
from ...templates.lark import json_term
from .blame import LISTED, NAMED, Fault, Schema

# Keywords without which others of the same schema would allow less.
_BOUND_TO: dict[str, tuple[str, ...]] = {
    "properties": ("additionalProperties",),
    "patternProperties": ("additionalProperties",),
    "prefixItems": ("items",),
    "items": ("additionalItems",),
}


def looser(grammar: Grammar, faults: Sequence[Fault]) -> Grammar | None:
    """Returns a grammar without the parts to blame, or None if it cannot do without one of them.
    Without `faults`, nothing is left of the schemas that may be relaxed but their types."""
    found = grammar
    for fault in faults or [Fault(place) for place in grammar.loose]:
        without = _without(found, fault)
        if without is None:
            return None
        found = without
    return None if found.lark == grammar.lark else found


def _without(grammar: Grammar, fault: Fault) -> Grammar | None:
    """Returns the grammar without one part; None if its schema must be followed."""
    text = grammar.schemas[fault.schema]
    same = [place for place, other in grammar.schemas.items() if other == text]
    if not set(same) <= set(grammar.loose):
        return None
    root = json.loads(text)
    if not _is_there(root, fault.path):  # it went with another part
        return grammar
    relaxed = _part_out(root, fault.path)
    is_object = fault.path == ["type"] and root["type"] == "object"
    if is_object or relaxed == root:
        fault, relaxed = Fault(fault.schema), _type_of(root)
    if relaxed == root:
        return grammar
    places = [Fault(place, fault.path).place for place in same]
    return msgspec.structs.replace(
        grammar,
        # The text of a term is in no string of the grammar, where quotes are escaped.
        lark=grammar.lark.replace(json_term(root), json_term(relaxed)),
        schemas=grammar.schemas | dict.fromkeys(same, json.dumps(relaxed)),
        relaxed=grammar.relaxed + [place for place in places if place not in grammar.relaxed],
    )


def _is_there(value: Any, path: Sequence[str | int]) -> bool:
    for step in path:
        there = step in value if isinstance(value, dict) else isinstance(step, int)
        if not there or (isinstance(step, int) and step >= len(value)):
            return False
        value = value[step]
    return True


def _part_out(schema: Schema, path: Sequence[str | int]) -> Schema:
    """Returns a schema without the part that a path leads to, which allows more."""
    if not path:
        return _type_of(schema)
    keyword, rest = str(path[0]), path[1:]
    if not rest:
        return _keyword_out(schema, keyword)
    value = schema[keyword]
    if keyword in NAMED and isinstance(value, dict):
        name = rest[0]
        return schema | {keyword: value | {name: _part_out(value[name], rest[1:])}}
    if keyword in LISTED and isinstance(value, list):
        listed = [*value]
        listed[int(rest[0])] = _part_out(value[int(rest[0])], rest[1:])
        return schema | {keyword: listed}
    return schema | {keyword: _part_out(value, rest)}


def _keyword_out(schema: Schema, keyword: str) -> Schema:
    if keyword == "oneOf" and "anyOf" not in schema:
        return {"anyOf" if name == keyword else name: value for name, value in schema.items()}
    gone = {keyword, *_BOUND_TO.get(keyword, ())}
    return {name: value for name, value in schema.items() if name not in gone}


def _type_of(schema: Schema) -> Schema:
    """Returns a schema of which only the type is left, if it is a single one."""
    kind = schema.get("type")
    known = ("null", "boolean", "integer", "number", "string", "array", "object")
    return {"type": kind} if kind in known else {}
