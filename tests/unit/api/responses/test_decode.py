"""What bodies of POST /v1/responses ask for, and what of them is ignored or refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from sheily_server.api.responses import decode, items
from sheily_server.api.responses import protocol as wire
from sheily_server.errors import InvalidRequestError

PERSON = {
    "properties": {"name": {"title": "Name", "type": "string"}},
    "required": ["name"],
    "title": "Person",
    "type": "object",
    "additionalProperties": False,
}

# As 13 clients send their first request.
BODIES: dict[str, dict[str, Any]] = {
    "a text": {"input": "hi", "max_output_tokens": 16},
    "typed": {
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Name a river."}],
            }
        ],
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 16,
    },
    "forced": {
        "input": [{"role": "user", "content": "Extract: Jason is 25 years old."}],
        "max_output_tokens": 200,
        "text": {
            "format": {"type": "json_schema", "name": "Person", "strict": True, "schema": PERSON}
        },
        "tool_choice": {"type": "function", "name": "Person"},
        "tools": [
            {"type": "function", "name": "Person", "parameters": PERSON, "description": "It."}
        ],
    },
    "untyped": {
        "stream": False,
        "input": [{"role": "user", "content": "hi"}],
        "max_output_tokens": 30,
    },
    "empty lists": {"include": [], "input": [{"content": "hi", "role": "user"}], "tools": []},
    "parts": {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]},
    "empty text": {
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "stream": False,
        "text": {},
    },
}


def read(body: dict[str, Any], strict: bool = False) -> Any:
    return decode.read(json.dumps({"input": "a"} | body).encode(), strict)


def refused(body: dict[str, Any], strict: bool = False) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        read(body, strict)
    return caught.value


@pytest.mark.parametrize("name", BODIES)
def test_bodies_of_clients(name: str) -> None:
    found = read(BODIES[name])
    (message,) = items.messages_of(items.items_of(found.request))
    assert message.message.role == "user"
    assert message.message.text
    assert decode.generation(found, [message.message], None).messages == [message.message]


@pytest.mark.parametrize("name", wire.EFFECTLESS)
def test_what_has_no_effect_is_named(name: str) -> None:
    assert read({name: {"some": "thing"}}).ignored == (name,)
    assert read({name: None}).ignored == ()
    for value in wire.EFFECTLESS[name]:
        assert read({name: value}).ignored == ()
    assert refused({name: {"some": "thing"}}, strict=True).param == name


@pytest.mark.parametrize("name", wire.NEUTRAL)
def test_what_would_change_the_answer_is_refused(name: str) -> None:
    error = refused({name: {"some": "thing"}})
    assert (error.param, error.code) == (name, "unsupported_parameter")
    for value in (None, *wire.NEUTRAL[name]):
        assert read({name: value}).ignored == ()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"include": ["message.output_text.logprobs", "x.y"]}, "include[1]"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input[].reasoning"),
        ({"colour": "red"}, "colour"),
        ({"input": [{"role": "user", "content": "a", "colour": "red"}]}, "input[].colour"),
    ],
)
def test_values_without_effect_are_named_by_their_place(body: dict[str, Any], place: str) -> None:
    assert read(body).ignored == (place,)
    assert refused(body, strict=True).code in ("unsupported_parameter", "unknown_parameter")


def test_a_bias() -> None:
    body = {"logit_bias": {"5": 3}, "repetition_penalty": 1.5, "ignore_eos": True}
    sampling = decode.generation(read(body), [], None).sampling
    assert msgspec.to_builtins(sampling.logit_bias) != msgspec.to_builtins(
        decode.generation(read({}), [], None).sampling.logit_bias
    )
    assert (sampling.repeat_penalty, sampling.ignore_eos) == (1.5, True)
    texts = decode.generation(read({"logit_bias": [["x", 1], [5, False]]}), [], None)
    assert texts.bias_texts == {"x": 1}
    assert refused({"logit_bias": {"": 1}}).param == "logit_bias"


def test_kinds_of_items_that_are_no_words_are_no_crash() -> None:
    for kind in (3, {"a": 1}, ["b"]):
        assert refused({"input": [{"type": kind, "role": "user", "content": "a"}]}).param
        part = {"type": kind, "text": "a"}
        assert refused({"input": [{"role": "user", "content": [part]}]}).param
    assert refused({"input": ["a"]}).param == "input[0]"
    assert refused({"tools": ["a"]}).param == "tools[0]"


def test_schemas_that_are_too_deep() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"properties": {"a": deep}}
    error = refused({"tools": [{"type": "function", "name": "f", "parameters": deep}]})
    assert error.param == "tools[0].parameters"
    form = {"type": "json_schema", "name": "a", "schema": deep, "strict": True}
    with pytest.raises(InvalidRequestError) as caught:
        decode.generation(read({"text": {"format": form}}), [], None)
    assert caught.value.param == "text.format.schema"


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"strict": True, "parameters": {"type": "string"}}, "tools[0].parameters"),
        ({"strict": True, "parameters": {"enum": ["x" * 70_000]}}, "tools[0].parameters"),
    ],
)
def test_strict_parameters_that_cannot_be_followed(tool: dict[str, Any], param: str) -> None:
    found = read({"tools": [{"type": "function", "name": "f", **tool}]})
    with pytest.raises(InvalidRequestError) as caught:
        decode.offer(found.request)
    assert caught.value.param == param
