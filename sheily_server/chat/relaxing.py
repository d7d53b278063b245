"""Leaves out of a JSON Schema what a grammar cannot follow. Pure: knows keywords, not requests.

What is left allows every answer that the whole schema allows. Keywords are those of
https://json-schema.org/draft/2020-12, and older drafts' names for them.
"""

from __future__ import annotations

import json
from typing import Any

from .patterns import loosened
from .schema_parts import exclusive, is_never, names_of, resolved, types_of

Schema = dict[str, Any]

FORMATS = frozenset(
    {
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
        "uri",
    }
)
"""Formats of strings that a grammar can follow."""
UNFOLLOWED = frozenset(
    {
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "unevaluatedItems",
        "propertyNames",
        "$dynamicRef",
        "$recursiveRef",
        "$dynamicAnchor",
    }
)
"""Keywords that no grammar can follow."""
_WITHOUT_EFFECT_ALONE = {
    "minContains": "contains",
    "maxContains": "contains",
    "then": "if",
    "else": "if",
}
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_LISTED = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_NESTED = frozenset({"items", "additionalProperties", "additionalItems"})
_COUNTS = frozenset({"minLength", "maxLength", "minItems"})
MOST_WRITTEN_OUT = 64 * 1024
"""Bytes that properties may take which are written out for the names of `propertyNames`."""
MOST_COMPARED = 1000
"""Pairs of options that are compared in one schema."""
MOST_NAME = 100
"""Characters of a property's name that its place shows."""


def relaxed(schema: Schema, place: str, longest: int) -> tuple[Schema, list[str]]:
    """Returns the part of a schema that a grammar can follow, and the places of what was left out.

    `place` is where the request has the schema. Counts of characters, and of items that must be
    there, are followed up to `longest`. `check_schema` bounds the schema.
    """
    work = _Relaxing(schema, longest)
    return work.object(schema, place), work.places


class _Relaxing:
    """One pass over a schema. `places` collects what was left out."""

    def __init__(self, root: Schema, longest: int) -> None:
        self.places: list[str] = []
        self._root = root
        self._longest = longest
        self._pairs = MOST_COMPARED
        # Where a reference points to a keyword, that keyword cannot be written otherwise.
        fixed = "/additionalProperties" in json.dumps(root)
        self._room = 0 if fixed else MOST_WRITTEN_OUT

    def object(self, schema: Schema, place: str) -> Schema:
        found: Schema = {}
        for keyword, value in schema.items():
            found |= self._kept(keyword, value, schema, f"{place}.{keyword}")
        if "propertyNames" in schema:
            self._name_properties(found, schema, place)
        return found

    def _kept(self, keyword: str, value: Any, schema: Schema, place: str) -> Schema:
        """Returns what is kept of a keyword, with the keyword; empty if nothing is."""
        kept: Schema = {keyword: value}
        if keyword in UNFOLLOWED:
            left_out, kept = _has_effect(keyword, value, schema), {}
        elif keyword == "format":
            known = isinstance(value, str) and value in FORMATS
            left_out = not known or "string" not in types_of(schema)
        elif keyword in _COUNTS and isinstance(value, int | float):
            left_out = value > self._longest
        elif keyword == "pattern" and isinstance(value, str):
            pattern = loosened(value, self._longest)
            if pattern not in ("", value):
                self.places.append(place)
                return {keyword: pattern}
            left_out = pattern != value
        elif keyword == "oneOf" and isinstance(value, list):
            return self._one_of(value, schema, place)
        else:
            return {keyword: self._inside(keyword, value, schema, place)}
        if left_out:
            self.places.append(place)
        return {} if left_out else kept

    def _one_of(self, options: list[Any], schema: Schema, place: str) -> Schema:
        """Says the same with anyOf where that is the same. Says less where an option was relaxed:
        another one may now allow the same value. The engine decides on the rest."""
        n_before = len(self.places)
        kept = self._inside("oneOf", options, schema, place)
        self._pairs -= len(options) * (len(options) - 1) // 2
        same = self._pairs >= 0 and "anyOf" not in schema and exclusive(options, self._root)
        if same or len(self.places) == n_before:
            return {"anyOf" if same else "oneOf": kept}
        self.places.append(place)
        return {} if "anyOf" in schema else {"anyOf": kept}

    def _inside(self, keyword: str, value: Any, schema: Schema, place: str) -> Any:
        """Returns the value of a keyword that may hold schemas."""
        if keyword in _NAMED and isinstance(value, dict):
            required = _strings(schema.get("required"))
            return {
                name: self._option(
                    child,
                    f"{place}.{name[:MOST_NAME]}",
                    may_go=keyword == "properties" and name not in required,
                )
                for name, child in value.items()
            }
        if keyword in _LISTED and isinstance(value, list):
            may_go = keyword in ("anyOf", "oneOf") and not all(map(is_never, value))
            return [
                self._option(child, f"{place}[{i}]", may_go=may_go) for i, child in enumerate(value)
            ]
        return self._option(value, place) if keyword in _NESTED else value

    def _option(self, value: Any, place: str, may_go: bool = False) -> Any:
        """Relaxes what may be a schema. One that nothing follows stays so where it `may_go`: Zod
        writes undefined like that."""
        if may_go and is_never(value):
            return False
        return self.object(value, place) if isinstance(value, dict) else value

    def _pattern_of(self, names: Any) -> str | None:
        """Returns the pattern of names that are bound by nothing else."""
        if self._room == 0 or not isinstance(names, dict):
            return None
        pattern = names.get("pattern")
        alone = not _without_notes(names).keys() - {"type", "pattern"}
        followed = isinstance(pattern, str) and pattern == loosened(pattern, self._longest)
        return pattern if alone and followed else None

    def _name_properties(self, found: Schema, schema: Schema, place: str) -> None:
        """Says with other keywords what `propertyNames` says, if they can say it."""
        names = resolved(schema["propertyNames"], self._root)
        if names is True or (isinstance(names, dict) and _any_name(names)):
            return
        others = found.get("additionalProperties", {})
        written = names_of(names)
        if written is not None and "patternProperties" not in found:
            n_bytes = len(written) * len(json.dumps(others))
            given = found.get("properties")
            if n_bytes <= self._room and (given is None or isinstance(given, dict)):
                self._room -= n_bytes
                more = {} if others is False else dict.fromkeys(written, others)
                named = set(written)
                kept = {name: value for name, value in (given or {}).items() if name in named}
                found["properties"] = kept | {n: v for n, v in more.items() if n not in kept}
                found["additionalProperties"] = False
                return
        pattern = self._pattern_of(names)
        if pattern is not None and not found.keys() & {"properties", "patternProperties"}:
            found["patternProperties"] = {pattern: others}
            found["additionalProperties"] = False
            return
        self.places.append(f"{place}.propertyNames")


def _strings(value: Any) -> set[str]:
    return {each for each in value if isinstance(each, str)} if isinstance(value, list) else set()


def _has_effect(keyword: str, value: Any, schema: Schema) -> bool:
    """Whether an answer could break a keyword that no grammar follows."""
    needed = _WITHOUT_EFFECT_ALONE.get(keyword)
    if needed is not None:
        return False if needed == "if" else needed in schema
    if keyword == "if":
        return "then" in schema or "else" in schema
    if keyword == "uniqueItems" or keyword.startswith("dependent") or keyword == "dependencies":
        return bool(value)
    if keyword.startswith("unevaluated"):
        return value is not True and value != {}
    return keyword not in ("propertyNames", "$dynamicAnchor")  # names are looked at elsewhere


_NOTES = frozenset({"title", "description", "default", "examples", "$comment", "deprecated"})


def _without_notes(schema: Schema) -> Schema:
    return {keyword: value for keyword, value in schema.items() if keyword not in _NOTES}


def _any_name(names: Schema) -> bool:
    return _without_notes(names) in ({}, {"type": "string"})
