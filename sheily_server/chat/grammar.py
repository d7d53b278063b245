"""Makes the grammars that answers must follow, for the engine. Bounds what they are made of."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidRequestError
from ..protocol.commands import Grammar
from ..templates.base import CallSyntax, Function, Offer
from ..templates.lark import json_term
from .grammars import read
from .grammars.tree import GrammarError
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


@dataclass(frozen=True, slots=True)
class AnswerRegex:
    """A regular expression that matches the whole answer. `place` is where the request has it."""

    pattern: str
    place: str


@dataclass(frozen=True, slots=True)
class AnswerChoice:
    """Texts, one of which is the whole answer. `place` is where the request has them."""

    texts: Sequence[str]
    place: str


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """A grammar of the whole answer, in Lark or GBNF. `place` is where the request has it."""

    text: str
    place: str


AnswerForm = AnswerSchema | AnswerRegex | AnswerChoice | AnswerRules


def answer_grammar(
    form: AnswerForm | None,
    offered: Offer,
    syntax: CallSyntax | None,
    parallel: int = 1,
) -> Grammar | None:
    """Returns what the answer must follow, or None if it is free.

    With functions on offer, an answer of this form may also be a call; if a call is forced, the
    form is not used. `parallel` is the number of answers that run at once. Raises
    InvalidRequestError for a form that cannot be read.
    """
    longest = max(LEAST_COUNTED, min(MOST_COUNTED, ALL_COUNTED // parallel))
    if syntax is None or not offered.functions:
        return None if form is None else _term(form, longest).grammar()
    if form is None and not offered.binding:
        return None
    text = None if form is None or offered.forced else _term(form, longest)
    parameters = [_parameters(function, longest) for function in offered.functions]
    functions = tuple(
        replace(function, parameters=found.schema)
        for function, found in zip(offered.functions, parameters, strict=True)
    )
    lark = syntax.grammar(
        replace(offered, functions=functions), None if text is None else text.term
    )
    if text is None:
        return _grammar(lark, "tools", parameters)
    if text.rules:
        lark += f"\n{text.rules}"
    schemas = [] if text.schema is None else [text.schema]
    # Only what the caller wrote as a grammar can be wrong apart from schemas.
    param = "tools" if text.schema is not None else text.place
    return _grammar(lark, param, [*parameters, *schemas])


def schema_grammar(schema: dict[str, Any], param: str) -> Grammar:
    """Returns the grammar of an answer that follows all of a schema."""
    return _schema_term(_Followed(schema, param, None)).grammar()


@dataclass(frozen=True, slots=True)
class _Followed:
    """A schema as far as it is followed. `left_out` are places of constraints; None means that
    nothing may be left out."""

    schema: dict[str, Any]
    place: str
    left_out: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Term:
    """The term that an answer follows, the lines with the rules in it, and the schema in it."""

    term: str
    place: str
    rules: str = ""
    schema: _Followed | None = None

    def grammar(self) -> Grammar:
        lark = f"start: {self.term}" + (f"\n{self.rules}" if self.rules else "")
        return _grammar(lark, self.place, [] if self.schema is None else [self.schema])


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


def _term(form: AnswerForm, longest: int) -> _Term:
    """Returns the term of a form. Raises InvalidRequestError."""
    if isinstance(form, AnswerSchema):
        if form.strict:
            return _schema_term(_exact(form.schema, form.place))
        return _schema_term(_loose(form.schema, form.place, {}, longest))
    try:
        if isinstance(form, AnswerRegex):
            return _Term(read.regex(form.pattern), form.place)
        if isinstance(form, AnswerChoice):
            return _Term(read.choice(form.texts), form.place)
        term, rules = read.grammar(form.text)
        return _Term(term, form.place, rules)
    except GrammarError as error:
        raise InvalidRequestError(
            f"{form.place} cannot be honoured: {error}.", form.place
        ) from None


def _schema_term(followed: _Followed) -> _Term:
    return _Term(json_term(followed.schema), followed.place, schema=followed)


def _parameters(function: Function, longest: int) -> _Followed:
    schema = function.schema()
    if function.strict:
        return _exact(schema, function.place)
    if schema["type"] != "object":
        return _Followed({"type": "object"}, function.place, (f"{function.place}.type",))
    return _loose(schema, function.place, {"type": "object"}, longest)


def _exact(schema: dict[str, Any], place: str) -> _Followed:
    """Follows all of a schema. `propertyNames`, which no grammar follows, is said with other
    keywords where they say the same."""
    if '"propertyNames"' not in json.dumps(schema):
        return _Followed(schema, place, None)
    found, left_out = relaxed(schema, place, sys.maxsize)
    return _Followed(schema if left_out else found, place, None)


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
