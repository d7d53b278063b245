"""Finds which part of a grammar's schemas is to blame, and which patterns they have. Pure: only
walks schemas; callers decide whether a part is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ...protocol.commands import Grammar

Schema = dict[str, Any]
ToBlame = Callable[[Schema, Schema], bool]
"""Takes a part of a schema, and the whole schema. Raises SearchEndedError."""


class SearchEndedError(Exception):
    """Raised when the search for the part to blame must stop."""


def part(schema: Schema, root: Schema) -> str:
    """Returns a part of a schema as a grammar, with the definitions that it may refer to."""
    known = {name: root[name] for name in DEFINITIONS if name in root}
    return f"start: %json {json.dumps(known | schema)}"


class Fault(msgspec.Struct, frozen=True):
    """A part of a grammar's schemas that is to blame: the place of its schema in the request, and
    the keywords, names and indices that lead to it from there. `keyword` is the last of them with
    its value, as text, or empty when a whole schema is to blame."""

    schema: str
    path: list[str | int] = []
    keyword: str = ""

    @property
    def place(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step[:100]}" for step in self.path)
        return self.schema + "".join(steps)


def find(grammar: Grammar, to_blame: ToBlame, most: int = 1) -> list[Fault]:
    """Returns the deepest parts to blame, with a keyword where one is, and no more than `most`.

    They are parts of schemas that may be relaxed, or else of one that may not. Empty if nothing was
    found.
    """
    search = _Search(to_blame, most)
    for places in (grammar.loose, grammar.schemas.keys() - set(grammar.loose)):
        for place in grammar.schemas:
            if place in places and not search.ended and len(search.faults) < most:
                search.schema(place, json.loads(grammar.schemas[place]), len(grammar.schemas) == 1)
        if search.faults:
            break
    return search.faults


class _Search:
    """Collects the `faults` of schemas, one after another, until it has enough or has `ended`."""

    def __init__(self, to_blame: ToBlame, most: int) -> None:
        self.faults: list[Fault] = []
        self.ended = False
        self._to_blame = to_blame
        self._most = most

    def schema(self, place: str, root: Schema, is_known: bool) -> None:
        """Searches a schema, if it is to blame, or `is_known` to be."""
        try:
            if is_known or self._to_blame(root, root):
                self._part(place, [], root, root)
        except SearchEndedError:
            self.ended = True

    def _part(self, place: str, path: list[str | int], schema: Schema, root: Schema) -> None:
        """Searches a part that is to blame."""
        n_before = len(self.faults)
        keyword = ""
        try:
            for defining in (True, False):
                for steps, child in _schemas_inside(schema):
                    if (steps[0] in DEFINITIONS) is defining and self._to_blame(child, root):
                        self._part(place, [*path, *steps], child, root)
                        if len(self.faults) >= self._most:
                            return
                if len(self.faults) > n_before:  # what refers to a part to blame is not
                    return
            keyword = self._keyword(schema, root)
        except SearchEndedError:
            if not self.faults:  # rather a part that is too large than none
                self.faults.append(Fault(place, path))
            raise
        said = f"{keyword} {json.dumps(schema[keyword])[:60]}" if keyword else ""
        self.faults.append(Fault(place, [*path, keyword] if keyword else path, said))

    def _keyword(self, schema: Schema, root: Schema) -> str:
        """Returns the keyword without which a part is not to blame, or ""."""
        for keyword in sorted(schema, key=_order):
            rest = {name: value for name, value in schema.items() if name != keyword}
            if not self._to_blame(rest, root):
                return keyword
        return ""


DEFINITIONS = ("$defs", "definitions")
NAMED = ("properties", "patternProperties", *DEFINITIONS)
"""Keywords whose value maps names to schemas."""
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
"""Keywords whose value lists schemas."""
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


def _schemas_inside(schema: Schema) -> Iterator[tuple[list[str | int], Schema]]:
    """Yields the schemas inside a schema, with the steps that lead to each."""
    for name, value in schema.items():
        if name in NAMED and isinstance(value, dict):
            for key, child in value.items():
                if isinstance(child, dict):
                    yield [name, key], child
        elif name in LISTED and isinstance(value, list):
            for i, child in enumerate(value):
                if isinstance(child, dict):
                    yield [name, i], child
        elif name in ("items", "additionalProperties") and isinstance(value, dict):
            yield [name], value


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
