"""JSON Schemas from requests: their size is bounded, and they become grammars for the engine."""

from __future__ import annotations

import json
import re
from typing import Any

from .engine.messages import Grammar
from .errors import invalid_request

MAX_DEPTH = 32
MAX_NODES = 500
MAX_BYTES = 64 * 1024
MAX_REPETITION = 2000
MAX_PATTERN = 1000
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
