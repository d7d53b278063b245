"""JSON Schemas from requests: their size is bounded, and they become grammars for the engine."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from .engine.messages import Grammar
from .errors import invalid_request

MAX_DEPTH = 32
MAX_REFERRED_DEPTH = 128
"""Levels with what references lead to, each reference one."""
MAX_NODES = 500
MAX_BYTES = 64 * 1024
MAX_REPETITION = 2000
MAX_PATTERN = 1000
MAX_MEETING_PATTERNS = 8
"""How many patterns and formats one value may have to match at once. Whether anything matches all
of them takes llguidance a time that can grow as a power of their number: 15 took 0.02 s, 19 2.4 s,
and 59 more than two minutes."""

_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")

# The counts of a regular expression, as in a{2,5}; an escaped brace is none.
_REPETITION = re.compile(r"\\.|\{(\d+)(?:,(\d*))?\}", re.DOTALL)

# As json.dumps writes, which is how the models have seen JSON; free white space would let a weak
# model write blanks for ever.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def check_schema(schema: dict[str, Any], param: str) -> None:
    """Raises ApiError (400) for a schema so large that compiling it could stall the engine."""
    nodes, level, depth = 0, [schema], 0
    while level:
        nodes += len(level)
        depth += 1
        if depth > MAX_DEPTH:
            raise invalid_request(f"The schema is nested deeper than {MAX_DEPTH} levels.", param)
        if nodes > MAX_NODES:
            raise invalid_request(f"The schema has more than {MAX_NODES} parts.", param)
        for part in level:
            _check_counts(part, param)
            _check_patterns(part, param)
        level = [child for part in level for child in _children(part)]
    if len(json.dumps(schema)) > MAX_BYTES:  # which fails on one that is too deep
        raise invalid_request(f"The schema is larger than {MAX_BYTES} bytes.", param)
    if _Meetings(schema, param).of(schema) > MAX_MEETING_PATTERNS:
        raise invalid_request(
            "The schema has a value that must match more than "
            f"{MAX_MEETING_PATTERNS} patterns and formats at once.",
            param,
        )


def schema_fragment(schema: dict[str, Any]) -> str:
    """A schema as a term of llguidance's Lark, written as json.dumps writes."""
    return f"%json {json.dumps(schema | {'x-guidance': _LAYOUT})}"


def schema_grammar(schema: dict[str, Any], param: str) -> Grammar:
    """The grammar of an answer that follows a schema from its first character to its last."""
    return Grammar(f"start: {schema_fragment(schema)}", param)


def _children(part: Any) -> list[Any]:
    values = part.values() if isinstance(part, dict) else part
    return [value for value in values if isinstance(value, dict | list)]


def _check_counts(part: Any, param: str) -> None:
    for name in _COUNTS if isinstance(part, dict) else ():
        count = part.get(name)
        if isinstance(count, int | float) and count > MAX_REPETITION:
            raise invalid_request(f"{name} is {count}, more than {MAX_REPETITION}.", param)


def _check_patterns(part: Any, param: str) -> None:
    if not isinstance(part, dict):
        return
    named = part.get("patternProperties")
    patterns = [part.get("pattern"), *(named if isinstance(named, dict) else ())]
    for pattern in patterns:
        if not isinstance(pattern, str):
            continue
        if len(pattern) > MAX_PATTERN:
            raise invalid_request(f"A pattern has more than {MAX_PATTERN} characters.", param)
        counts = [int(count) for found in _REPETITION.findall(pattern) for count in found if count]
        if max(counts, default=0) > MAX_REPETITION:
            raise invalid_request(f"A pattern repeats more than {MAX_REPETITION} times.", param)


class _Meetings:
    """How many patterns and formats may meet in one value of a schema; rather too many than too
    few, as parts that apply to the same value may name different properties of it."""

    def __init__(self, root: dict[str, Any], param: str) -> None:
        self._root = root
        self._param = param
        self._known: dict[int, int] = {}
        self._depth = 0

    def of(self, part: Any) -> int:
        """The most in one value that `part` is about, or in one inside of it. Raises ApiError."""
        if not isinstance(part, dict):
            return 0
        if id(part) not in self._known:
            if self._depth == MAX_REFERRED_DEPTH:
                raise invalid_request(
                    f"The references of the schema lead deeper than {MAX_REFERRED_DEPTH} levels.",
                    self._param,
                )
            self._known[id(part)] = 0  # what refers to itself adds nothing new to itself
            self._depth += 1
            self._known[id(part)] = self._count(part)
            self._depth -= 1
        return self._known[id(part)]

    def _count(self, part: dict[str, Any]) -> int:
        own = isinstance(part.get("pattern"), str) + isinstance(part.get("format"), str)
        inside = named = 0
        for name, value in part.items():
            if name in ("properties", "prefixItems"):
                inside = max(inside, *map(self.of, _branches(value)), 0)
            elif name == "patternProperties":
                named = max(map(self.of, _branches(value)), default=0)
            elif name in ("items", "additionalProperties", "not", "if", "then", "else"):
                inside = max(inside, self.of(value))
        met = max(own, inside + named) + sum(map(self.of, _branches(part.get("allOf"))))
        for name in ("anyOf", "oneOf"):
            met += max(map(self.of, _branches(part.get(name))), default=0)
        if isinstance(part.get("$ref"), str):
            met += self.of(self._target(part["$ref"]))
        return met

    def _target(self, reference: str) -> Any:
        """What a JSON pointer (RFC 6901) names; None for what it does not, or is none."""
        found: Any = self._root
        for name in unquote(reference).removeprefix("#").split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list):
                is_index = re.fullmatch(r"[0-9]{1,4}", name) and int(name) < len(found)
                found = found[int(name)] if is_index else None
            else:
                found = found.get(name) if isinstance(found, dict) else None
        return found


def _branches(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
