"""Makes the grammars that answers must follow, for the engine. Bounds the size of schemas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidRequestError
from ..protocol.commands import Grammar
from ..templates.base import CallSyntax, Function, Offer
from ..templates.lark import json_term
from .relaxing import relaxed

MAX_DEPTH = 32
MAX_NODES = 5000
"""Most objects and lists in a schema."""
MAX_BYTES = 64 * 1024
MOST_COUNTED, LEAST_COUNTED, ALL_COUNTED = 2000, 250, 8000
"""Characters of a string that a schema without `strict` counts: at most, at least, and in all
answers that run at once. Counting takes states of a lexer, which all answers share."""
MOST_NAMED = 100
"""Most places that are named of what was left out of schemas."""


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
    the request has it. Unless it is `strict`, what a grammar cannot follow is left out of it."""

    schema: dict[str, Any]
    place: str
    strict: bool = False


def answer_grammar(
    schema: AnswerSchema | None,
    offered: Offer,
    syntax: CallSyntax | None,
    parallel: int = 1,
) -> Grammar | None:
    """Returns what the answer must follow, or None if it is free.

    With functions on offer, an answer that follows the schema may also be a call; if a call is
    forced, the schema is not used. `parallel` is the number of answers that run at once.
    """
    longest = max(LEAST_COUNTED, min(MOST_COUNTED, ALL_COUNTED // parallel))
    if syntax is None or not offered.functions:
        return None if schema is None else _relaxed(schema, longest).grammar()
    if schema is None and not offered.binding:
        return None
    text = None if schema is None or offered.forced else _relaxed(schema, longest)
    parameters = [_parameters(function, longest) for function in offered.functions]
    functions = tuple(
        replace(function, parameters=found.schema)
        for function, found in zip(offered.functions, parameters, strict=True)
    )
    lark = syntax.grammar(
        replace(offered, functions=functions), None if text is None else json_term(text.schema)
    )
    return _grammar(lark, "tools", parameters if text is None else [*parameters, text])


def schema_grammar(schema: dict[str, Any], param: str) -> Grammar:
    """Returns the grammar of an answer that follows all of a schema."""
    return _Followed(schema, param, None).grammar()


@dataclass(frozen=True, slots=True)
class _Followed:
    """A schema as far as it is followed. `left_out` are places of constraints; None means that
    nothing may be left out."""

    schema: dict[str, Any]
    place: str
    left_out: tuple[str, ...] | None

    def grammar(self) -> Grammar:
        return _grammar(f"start: {json_term(self.schema)}", self.place, [self])


def _grammar(lark: str, param: str, followed: Sequence[_Followed]) -> Grammar:
    places = [place for each in followed for place in each.left_out or ()]
    if len(places) > MOST_NAMED:
        places[MOST_NAMED:] = [f"{len(places) - MOST_NAMED} more"]
    return Grammar(
        lark,
        param,
        schemas={each.place: json.dumps(each.schema) for each in followed},
        loose=[each.place for each in followed if each.left_out is not None],
        relaxed=places,
    )


def _relaxed(answer: AnswerSchema, longest: int) -> _Followed:
    if answer.strict:
        return _Followed(answer.schema, answer.place, None)
    return _loose(answer.schema, answer.place, {}, longest)


def _parameters(function: Function, longest: int) -> _Followed:
    schema = function.schema()
    if function.strict:
        return _Followed(schema, function.place, None)
    if schema["type"] != "object":
        return _Followed({"type": "object"}, function.place, (f"{function.place}.type",))
    return _loose(schema, function.place, {"type": "object"}, longest)


def _loose(schema: dict[str, Any], place: str, instead: dict[str, Any], longest: int) -> _Followed:
    """Relaxes a schema; takes another `instead` of one that is too large."""
    try:
        check_schema(schema, place)
    except InvalidRequestError:
        return _Followed(instead, place, (place,))
    found, left_out = relaxed(schema, place, longest)
    return _Followed(found, place, tuple(left_out))


def _children(part: Any) -> list[Any]:
    values = part.values() if isinstance(part, dict) else part
    return [value for value in values if isinstance(value, dict | list)]
