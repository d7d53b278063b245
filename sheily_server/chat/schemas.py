"""JSON Schemas from requests: their size is bounded, and they become grammars for the engine."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InvalidRequestError
from ..protocol.messages import Grammar

MAX_DEPTH = 32
MAX_NODES = 5000
"""Objects and lists of a schema."""
MAX_BYTES = 64 * 1024

# As json.dumps writes, which is how the models have seen JSON; free white space would let a weak
# model write blanks for ever.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def check_schema(schema: dict[str, Any], param: str) -> None:
    """Raises InvalidRequestError for a schema that is too large to be sent to the compilers, which
    find out what it costs."""
    nodes, level, depth = 0, [schema], 0
    while level:
        nodes += len(level)
        depth += 1
        if depth > MAX_DEPTH:
            raise InvalidRequestError(
                f"The schema is nested deeper than {MAX_DEPTH} levels.", param
            )
        if nodes > MAX_NODES:
            raise InvalidRequestError(f"The schema has more than {MAX_NODES} parts.", param)
        level = [child for part in level for child in _children(part)]
    if len(json.dumps(schema)) > MAX_BYTES:  # which fails on one that is too deep
        raise InvalidRequestError(f"The schema is larger than {MAX_BYTES} bytes.", param)


def schema_fragment(schema: dict[str, Any]) -> str:
    """A schema as a term of llguidance's Lark, written as json.dumps writes."""
    return f"%json {json.dumps(schema | {'x-guidance': _LAYOUT})}"


def schema_grammar(schema: dict[str, Any], param: str) -> Grammar:
    """The grammar of an answer that follows a schema from its first character to its last."""
    return Grammar(f"start: {schema_fragment(schema)}", param, {param: json.dumps(schema)})


def _children(part: Any) -> list[Any]:
    values = part.values() if isinstance(part, dict) else part
    return [value for value in values if isinstance(value, dict | list)]
