"""Finds the form that a request wants its answer to have, in whichever server's field it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...chat.grammar import (
    AnswerChoice,
    AnswerForm,
    AnswerRegex,
    AnswerRules,
    AnswerSchema,
    check_schema,
)
from ...errors import InvalidRequestError
from . import protocol as wire

ANY_OBJECT = {"type": "object"}


def answer_form(options: wire.Options) -> AnswerForm | None:
    """Returns the form of the answer; None if it is free. Raises InvalidRequestError if there are
    two, which could not both be followed, or if a schema is none."""
    forms = list(_forms(options))
    if len(forms) > 1:
        first, second = forms[0].place, forms[1].place
        raise InvalidRequestError(
            f"{first} and {second} exclude each other: an answer has one form.", second
        )
    return forms[0] if forms else None


def _forms(options: wire.Options) -> Iterator[AnswerForm]:
    form = options.response_format
    if form is not None and not isinstance(form, wire.TextFormat):
        yield _of_response_format(form)
    if options.json_schema is not None:
        yield AnswerSchema(options.json_schema, "json_schema")
    if options.grammar:
        yield AnswerRules(options.grammar, "grammar")
    yield from _of_vllm(
        "guided_",
        json=options.guided_json,
        regex=options.guided_regex,
        choice=options.guided_choice,
        grammar=options.guided_grammar,
    )
    outputs = options.structured_outputs
    if outputs is None:
        return
    if outputs.structural_tag is not None:
        place = "structured_outputs.structural_tag"
        raise InvalidRequestError(
            f"{place!r} is not supported by this server.", place, "unsupported_parameter"
        )
    yield from _of_vllm(
        "structured_outputs.",
        json=outputs.json,
        regex=outputs.regex,
        choice=outputs.choice,
        grammar=outputs.grammar,
    )
    if outputs.json_object:
        yield AnswerSchema(ANY_OBJECT, "structured_outputs.json_object")


def of_schema(schema: dict[str, Any], place: str, strict: bool) -> AnswerSchema:
    """Returns the form of a schema. Raises InvalidRequestError for a strict one that is too
    large."""
    if strict:
        check_schema(schema, place)
    return AnswerSchema(schema, place, strict)


def of_object(form: wire.JsonObjectFormat, place: str) -> AnswerSchema:
    """Returns the form of any object, or of one that follows the schema in it."""
    if form.schema is None:
        return AnswerSchema(ANY_OBJECT, place)
    return AnswerSchema(form.schema, f"{place}.schema")


def _of_response_format(form: wire.JsonObjectFormat | wire.JsonSchemaFormat) -> AnswerSchema:
    if isinstance(form, wire.JsonObjectFormat):
        return of_object(form, "response_format")
    schema = form.json_schema.schema or {}
    return of_schema(schema, "response_format.json_schema.schema", form.json_schema.strict is True)


def _of_vllm(
    prefix: str,
    *,
    json: dict[str, Any] | str | None,
    regex: str | None,
    choice: list[str] | None,
    grammar: str | None,
) -> Iterator[AnswerForm]:
    """Yields the forms in vLLM's fields, whose names begin with `prefix`."""
    if json is not None:
        yield AnswerSchema(_schema(json, f"{prefix}json"), f"{prefix}json")
    if regex is not None:
        yield AnswerRegex(regex, f"{prefix}regex")
    if choice is not None:
        yield AnswerChoice(choice, f"{prefix}choice")
    if grammar is not None:
        yield AnswerRules(grammar, f"{prefix}grammar")


def _schema(given: dict[str, Any] | str, place: str) -> dict[str, Any]:
    """Returns a schema, which may be JSON in a string."""
    if isinstance(given, dict):
        return given
    try:
        schema = msgspec.json.decode(given)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{place} is not JSON: {error}.", place) from None
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{place} must be a JSON object.", place, "invalid_type")
    return schema
