"""Finds which part of a grammar's schemas is to blame, and which patterns they have. Pure: only
walks schemas; callers decide whether a part is wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

from ...protocol.commands import Grammar

Schema = dict[str, object]
ToBlame = Callable[[Schema, Schema], bool]
"""Takes a part of a schema, and the whole schema. Raises SearchEndedError."""


class SearchEndedError(Exception):
    """Raised when the search for the part to blame must stop."""


def part(schema: Schema, root: Schema) -> str:
    """Returns a part of a schema as a grammar, with the definitions that it may refer to."""
    known = {name: root[name] for name in ("$defs", "definitions") if name in root}
    return f"start: %json {json.dumps(known | schema)}"


def find(grammar: Grammar, to_blame: ToBlame) -> tuple[str, str]:
    """Returns the place of the deepest part to blame, and the keyword to blame in it, or ""."""
    with contextlib.suppress(SearchEndedError):
        for place, text in grammar.schemas.items():
            root = json.loads(text)
            if len(grammar.schemas) == 1 or to_blame(root, root):
                return _descend(place, root, root, to_blame)
    return grammar.param, ""


def _descend(place: str, schema: Schema, root: Schema, to_blame: ToBlame) -> tuple[str, str]:
    deeper = True
    with contextlib.suppress(SearchEndedError):
        while deeper:
            deeper = False
            for name, child in _schemas_inside(schema):
                if to_blame(child, root):
                    place, schema, deeper = f"{place}.{name}", child, True
                    break
        for keyword in sorted(schema, key=_order):
            rest = {name: value for name, value in schema.items() if name != keyword}
            if not to_blame(rest, root):
                return f"{place}.{keyword}", f"{keyword} {json.dumps(schema[keyword])[:60]}"
    return place, ""


_NAMED = ("properties", "patternProperties", "$defs", "definitions")
# Keywords to try first once no schema inside is to blame.
_COSTLY = (
    "multipleOf",
    "pattern",
    "format",
    "patternProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "enum",
    "properties",
    "items",
    "$ref",
    "maxLength",
    "minLength",
)


def _order(keyword: str) -> int:
    return _COSTLY.index(keyword) if keyword in _COSTLY else len(_COSTLY)


def _schemas_inside(schema: Schema) -> Iterator[tuple[str, Schema]]:
    for name, value in schema.items():
        if name in _NAMED and isinstance(value, dict):
            for key, child in value.items():
                if isinstance(child, dict):
                    yield f"{name}.{key}"[:100], child
        elif name in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
            for i, child in enumerate(value):
                if isinstance(child, dict):
                    yield f"{name}[{i}]", child
        elif name in ("items", "additionalProperties") and isinstance(value, dict):
            yield name, value


def patterns(schema: object, root: Schema) -> Iterator[str]:
    """Yields the patterns of a schema's strings as grammars, including those of property names."""
    seen: set[str] = set()
    inside = [schema]
    for one in inside:
        strings: list[Schema] = []
        if isinstance(one, dict):
            inside += one.values()
            strings += [one] if isinstance(one.get("pattern"), str) else []
            names = one.get("patternProperties")
            for name in names if isinstance(names, dict) else ():
                strings.append({"type": "string", "pattern": name})
        elif isinstance(one, list):
            inside += one
        for lark in [part(string, root) for string in strings]:
            if lark not in seen:
                seen.add(lark)
                yield lark


def all_patterns(grammar: Grammar) -> Iterator[str]:
    for text in grammar.schemas.values():
        root = json.loads(text)
        yield from patterns(root, root)
