"""Makes the grammars that answers must follow, for the engine. Bounds the size of schemas."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidRequestError
from ..protocol.commands import Grammar
from ..templates.base import CallSyntax, Offer
from ..templates.lark import json_term

MAX_DEPTH = 32
MAX_NODES = 5000
"""Most objects and lists in a schema."""
MAX_BYTES = 64 * 1024


def check_schema(schema: dict[str, Any], param: str) -> None:
    """Raises InvalidRequestError for a schema too large to send to the compilers. They find out
    what a smaller one costs."""
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
    if len(json.dumps(schema)) > MAX_BYTES:  # fails if nested too deeply
        raise InvalidRequestError(f"The schema is larger than {MAX_BYTES} bytes.", param)


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """A JSON Schema that the answer follows from its first character to its last. `place` is where
    the request has it."""

    schema: dict[str, Any]
    place: str


def answer_grammar(
    schema: AnswerSchema | None, offered: Offer, syntax: CallSyntax | None
) -> Grammar | None:
    """Returns what the answer must follow, or None if it is free. Raises InvalidRequestError when
    both a schema and calls bind it."""
    calls = _call_grammar(offered, syntax) if offered.binding and syntax else None
    if schema is None:
        return calls
    if calls is not None:
        raise InvalidRequestError(
            "An answer cannot follow response_format and be a forced or strict function call.",
            "response_format",
        )
    return schema_grammar(schema.schema, schema.place)


def _call_grammar(offered: Offer, syntax: CallSyntax) -> Grammar:
    schemas = {each.place: json.dumps(each.schema()) for each in offered.functions}
    return Grammar(syntax.grammar(offered, None), "tools", schemas)


def schema_grammar(schema: dict[str, Any], param: str) -> Grammar:
    """Returns the grammar of an answer that follows a schema from first to last character."""
    return Grammar(f"start: {json_term(schema)}", param, {param: json.dumps(schema)})


def _children(part: Any) -> list[Any]:
    values = part.values() if isinstance(part, dict) else part
    return [value for value in values if isinstance(value, dict | list)]
