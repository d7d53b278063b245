"""The form of an answer in the fields of several servers, and logit biases by texts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sheily_server.api.openai_chat import protocol as wire
from sheily_server.api.openai_chat.bias import read_bias
from sheily_server.api.openai_chat.forms import answer_form
from sheily_server.chat.grammar import (
    AnswerChoice,
    AnswerForm,
    AnswerRegex,
    AnswerRules,
    AnswerSchema,
)
from sheily_server.errors import InvalidRequestError
from sheily_server.protocol.commands import Bias

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
OBJECT = {"type": "object"}


def options(**fields: Any) -> wire.Options:
    return msgspec.convert(fields, wire.Options)


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        (
            {"response_format": {"type": "json_object"}},
            AnswerSchema(OBJECT, "response_format"),
        ),
        (
            {"response_format": {"type": "json_object", "schema": CITY}},
            AnswerSchema(CITY, "response_format.schema"),
        ),
        ({"json_schema": CITY}, AnswerSchema(CITY, "json_schema")),
        ({"grammar": 'root ::= "a"'}, AnswerRules('root ::= "a"', "grammar")),
        ({"grammar": ""}, None),
        ({"guided_json": CITY}, AnswerSchema(CITY, "guided_json")),
        ({"guided_json": '{"type": "object"}'}, AnswerSchema(OBJECT, "guided_json")),
        ({"guided_regex": "a|b"}, AnswerRegex("a|b", "guided_regex")),
        ({"guided_choice": ["a", "b"]}, AnswerChoice(["a", "b"], "guided_choice")),
        ({"guided_grammar": 'start: "a"'}, AnswerRules('start: "a"', "guided_grammar")),
        ({"structured_outputs": {}}, None),
        ({"structured_outputs": {"json_object": False}}, None),
        (
            {"structured_outputs": {"json_object": True}},
            AnswerSchema(OBJECT, "structured_outputs.json_object"),
        ),
        ({"structured_outputs": {"json": CITY}}, AnswerSchema(CITY, "structured_outputs.json")),
        ({"structured_outputs": {"regex": "a"}}, AnswerRegex("a", "structured_outputs.regex")),
        (
            {"structured_outputs": {"choice": ["a"]}},
            AnswerChoice(["a"], "structured_outputs.choice"),
        ),
        (
            {"structured_outputs": {"grammar": "root ::= [a]"}},
            AnswerRules("root ::= [a]", "structured_outputs.grammar"),
        ),
    ],
)
def test_each_field_gives_one_form(fields: dict[str, Any], form: AnswerForm | None) -> None:
    assert answer_form(options(**fields)) == form


@pytest.mark.parametrize(
    ("fields", "first", "second"),
    [
        (
            {"response_format": {"type": "json_object"}, "grammar": "x"},
            "response_format",
            "grammar",
        ),
        ({"json_schema": {}, "guided_regex": "a"}, "json_schema", "guided_regex"),
        ({"guided_choice": ["a"], "guided_json": {}}, "guided_json", "guided_choice"),
        (
            {"structured_outputs": {"regex": "a", "choice": ["a"]}},
            "structured_outputs.regex",
            "structured_outputs.choice",
        ),
        (
            {"guided_grammar": "x", "structured_outputs": {"json_object": True}},
            "guided_grammar",
            "structured_outputs.json_object",
        ),
    ],
)
def test_two_forms_exclude_each_other(fields: dict[str, Any], first: str, second: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        answer_form(options(**fields))
    assert caught.value.param == second
    assert caught.value.message.startswith(f"{first} and {second} exclude each other")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"guided_json": "{"}, "guided_json", "invalid_value"),
        ({"guided_json": "[" * 100_000}, "guided_json", "invalid_value"),
        ({"guided_json": "[]"}, "guided_json", "invalid_type"),
        ({"structured_outputs": {"json": "5"}}, "structured_outputs.json", "invalid_type"),
        (
            {"structured_outputs": {"structural_tag": {"type": "x"}}},
            "structured_outputs.structural_tag",
            "unsupported_parameter",
        ),
    ],
)
def test_what_is_refused(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        answer_form(options(**fields))
    assert (caught.value.param, caught.value.code) == (param, code)


def test_biases_by_id_and_by_text() -> None:
    given = options(logit_bias=[[5, -1], ["7", 2], ["river", False], [5, 3], ["1.5", 1]]).logit_bias
    found = read_bias(given)
    assert found.ids == Bias.of({5: 3, 7: 2})
    assert found.texts == {"river": -100.0, "1.5": 1.0}
    assert read_bias(options(logit_bias={"007": 1, " 7": 2}).logit_bias).texts == {" 7": 2}
    assert read_bias(None) == read_bias({}) == read_bias([])
