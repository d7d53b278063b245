"""Request bodies: what is taken, what is refused and under which name, and nothing in between."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.api import nesting
from sheily_server.api.openai_chat import decode, neutral
from sheily_server.api.openai_chat import protocol as openai
from sheily_server.api.openai_chat.dialect import OPENAI
from sheily_server.api.openai_chat.protocol import ChatRequest
from sheily_server.api.simple import SimpleChatRequest
from sheily_server.api.tokens import MAX_DETOKENIZED, DetokenizeRequest, TokenizeRequest
from sheily_server.backend.sampling import defaults
from sheily_server.config import Config
from sheily_server.errors import ServiceError
from sheily_server.protocol.commands import Sampling
from sheily_server.templates.base import Offer
from sheily_server.web import errors
from sheily_server.web.errors import kind
from tests.support.models import ROOT
from tests.support.wire import decode_request, ignored

DEFAULTS = defaults(Config(), None)
USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SHAPES: list[Any] = [ChatRequest, SimpleChatRequest]
ALL_SHAPES = [*SHAPES, TokenizeRequest, DetokenizeRequest]


def chat(**fields: Any) -> ChatRequest:
    return decode_request(json.dumps({"messages": [USER], **fields}).encode(), ChatRequest)


def talk(*messages: Any) -> ChatRequest:
    return decode_request(json.dumps({"messages": messages}).encode(), ChatRequest)


def told(shape: Any = ChatRequest, **fields: Any) -> list[str]:
    """The fields of a request that are named as without effect."""
    return ignored(json.dumps({"messages": [USER], **fields}).encode(), shape)


def refused(body: Any, shape: Any = ChatRequest, strict: bool = False) -> ServiceError:
    """The error of a body, given as bytes or as what is to be JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ServiceError) as caught:
        decode_request(data, shape, strict)
    error = caught.value
    assert kind(error).status == 400
    assert error.message
    assert error.code
    return error


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"hello",
        b'{"messages": [}',
        b'{"messages": [{"role": "user", "content": "x"}]} trailing',
        b"{'messages': []}",
        b"NaN",
        b"\xef\xbb\xbf{}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "\\udc00 x"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        b'{"\xff": 1}',
        '{"messages": []}'.encode("utf-16"),
        '{"messages": []}'.encode("utf-16-le"),
        b"\x00" * 100,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"messages": ' * 100_000 + b"1" + b"}" * 100_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "a\nb"}]}',
    ],
    ids=lambda body: repr(body[:40]) if isinstance(body, bytes) else None,
)
def test_what_is_no_json(body: bytes, shape: Any) -> None:
    error = refused(body, shape)
    assert (error.param, error.code) == (None, "invalid_json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999"])
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"temperature": %s, "messages": []}', "temperature"),
        ('{"logit_bias": {"5": %s}}', "logit_bias.5"),
        ('{"messages": [{"role": "user", "content": "x", "name": %s}]}', "messages[0].name"),
        ("[%s]", "[0]"),
    ],
)
def test_numbers_without_an_end_are_named(body: str, param: str, number: str) -> None:
    for shape in SHAPES:
        error = refused((body % number).encode(), shape)
        assert (error.param, error.code) == (param, "invalid_json")
        assert param in error.message


def test_of_a_field_that_is_there_twice_the_last_one_counts() -> None:
    """As in Python and JavaScript; JSON itself does not say."""
    body = b'{"messages": [], "seed": 1, "messages": [{"role": "user", "content": "x"}], "seed": 2}'
    request = decode_request(body, ChatRequest)
    assert (len(request.messages), request.seed) == (1, 2)


@pytest.mark.parametrize("shape", [ChatRequest, TokenizeRequest])
def test_the_depth_of_parameters(shape: Any) -> None:
    def body(depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        for _ in range(depth - 1):
            schema = {"items": schema}
        function = {"name": "f", "parameters": schema}
        return {"messages": [USER], "tools": [{"type": "function", "function": function}]}

    decode_request(json.dumps(body(nesting.MAX_NESTING)).encode(), shape)
    for depth in (nesting.MAX_NESTING + 1, 900):
        assert refused(body(depth), shape).param == "tools[0].function.parameters"


@pytest.mark.parametrize("body", [[], [USER], "text", 5, None, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_body_is_an_object(body: Any, shape: Any) -> None:
    error = refused(body, shape)
    assert (error.param, error.code) == (None, "invalid_type")


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"role": "system", "content": "be brief"}, "be brief"),
        ({"role": "developer", "content": "be brief"}, "be brief"),
        ({"role": "user", "content": "hi", "name": "ann"}, "hi"),
        ({"role": "user", "content": ""}, ""),
        ({"role": "user", "content": "nul \0 and 😀"}, "nul \0 and 😀"),
        ({"role": "assistant", "content": "yes"}, "yes"),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, None),
        ({"role": "assistant", "tool_calls": [CALL]}, None),
        ({"role": "tool", "content": "25 C", "tool_call_id": "c1"}, "25 C"),
        ({"role": "function", "content": "25 C", "name": "f"}, "25 C"),
        ({"role": "function", "content": None, "name": "f"}, None),
    ],
)
def test_message_shapes(message: dict[str, Any], content: str | None) -> None:
    assert talk(message).messages[0].content == content


def test_an_answer_of_openai_comes_back_as_it_was() -> None:
    echoed: dict[str, Any] = {
        "role": "assistant",
        "content": "yes",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert talk(USER, echoed, USER).messages[1].content == "yes"


def test_text_parts() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    message = talk({"role": "user", "content": content}).messages[0]
    assert message.content == [openai.TextPart("a"), openai.TextPart("b")]


def test_tool_calls_are_kept() -> None:
    message = talk({"role": "assistant", "content": None, "tool_calls": [CALL]}).messages[0]
    assert isinstance(message, openai.AssistantMessage)
    assert message.tool_calls == [openai.ToolCallParam("c1", openai.FunctionCall("f", "{}"))]


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        ([], "messages", "invalid_value"),
        ([USER] * (openai.MAX_MESSAGES + 1), "messages", "invalid_value"),
        (None, "messages", "invalid_type"),
        ("hi", "messages", "invalid_type"),
        (USER, "messages", "invalid_type"),
        ([USER, "hi"], "messages[1]", "invalid_type"),
        ([None], "messages[0]", "invalid_type"),
        ([USER, {}], "messages[1].role", "missing_required_parameter"),
        ([{"content": "x"}], "messages[0].role", "missing_required_parameter"),
        ([{"role": "user"}], "messages[0].content", "missing_required_parameter"),
        ([{"role": "system"}], "messages[0].content", "missing_required_parameter"),
        ([USER, {"role": "bob", "content": "x"}], "messages[1].role", "invalid_value"),
        ([{"role": "User", "content": "x"}], "messages[0].role", "invalid_value"),
        ([{"role": "function"}], "messages[0].content", "missing_required_parameter"),
        ([{"role": 1, "content": "x"}], "messages[0].role", "invalid_type"),
        ([{"role": None, "content": "x"}], "messages[0].role", "invalid_type"),
        ([{"role": "user", "content": None}], "messages[0].content", "invalid_type"),
        ([{"role": "user", "content": 5}], "messages[0].content", "invalid_type"),
        ([{"role": "user", "content": {"text": "x"}}], "messages[0].content", "invalid_type"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]", "invalid_type"),
        (
            [{"role": "user", "content": [{"type": "text"}]}],
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": 1}]}],
            "messages[0].content[0].text",
            "invalid_type",
        ),
        ([{"role": "user", "content": "x", "name": 1}], "messages[0].name", "invalid_type"),
        (
            [{"role": "tool", "content": "x"}],
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}],
            "messages[0].tool_calls[0].type",
            "invalid_value",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "1"}]}],
            "messages[0].tool_calls[0].function",
            "missing_required_parameter",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}],
            "messages[0].tool_calls[0].function.arguments",
            "missing_required_parameter",
        ),
        (
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "", "arguments": ""}}],
                }
            ],
            "messages[0].tool_calls[0].function.name",
            "invalid_value",
        ),
        (
            [{"role": "assistant", "content": "x", "function_call": {"name": "f"}}],
            "messages[0].function_call.arguments",
            "missing_required_parameter",
        ),
        (
            [{"role": "assistant", "content": "x", "function_call": "f"}],
            "messages[0].function_call",
            "invalid_type",
        ),
    ],
)
def test_bad_messages(messages: Any, param: str, code: str) -> None:
    error = refused({"messages": messages})
    assert (error.param, error.code) == (param, code)
    assert param in error.message or code == "missing_required_parameter"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "x"}},
        {"image_url": {"url": "x"}, "type": "image_url"},  # as SDKs that sort the keys send it
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_images_are_refused_with_their_place(part: dict[str, Any], strict: bool) -> None:
    talk = [USER, {"role": "user", "content": [{"type": "text", "text": "a"}, part]}]
    for shape in (ChatRequest, SimpleChatRequest, TokenizeRequest):
        error = refused({"messages": talk}, shape, strict)
        assert error.param == "messages[1].content[1].type"
        assert error.message == "This model reads text only, no content of the type 'image_url'."
    error = refused({"message": "hi", "history": talk}, SimpleChatRequest, strict)
    assert error.param == "history[1].content[1].type"
    assert error.message == "This model reads text only, no content of the type 'image_url'."


def test_the_name_of_a_kind_of_content_is_cut() -> None:
    part = {"type": "x" * 10_000}
    assert len(refused({"messages": [{"role": "user", "content": [part]}]}).message) < 200


def test_missing_messages() -> None:
    error = refused({})
    assert (error.param, error.code) == ("messages", "missing_required_parameter")
    assert error.message == "messages is missing."


def test_a_role_cannot_forge_the_place_of_an_error() -> None:
    forged = "bob, got `x` - at `$.temperature`"
    error = refused({"messages": [{"role": forged, "content": "x"}]})
    assert (error.param, error.code) == ("messages[0].role", "invalid_value")


LIMITED: dict[str, tuple[list[Any], list[Any]]] = {
    "max_tokens": ([-1, 1, 2**63 - 1], [0, -2, 2**63, 2**70]),
    "max_completion_tokens": ([-1, 1, 2**63 - 1], [0, -2, 2**63, 2**70]),
    "temperature": ([0, 0.0, 1, 2], [-0.1, 2.1, 10**30]),
    "top_p": ([0, 1e-9, 0.01, 1], [-1, 1.1]),
    "seed": ([0, -1, 2**63 - 1, -(2**63)], [2**63, -(2**63) - 1, 2**64, 2**70]),
    "presence_penalty": ([-2, 0, 2], [-2.1, 2.1]),
    "frequency_penalty": ([-2, 0, 2], [-2.1, 2.1]),
    "stop": (
        ["x", [], ["a", "b", "c", "d"], "é" * 128, ["x" * 256] * 16],
        ["", "x" * 257, "é" * 129, ["a"] * 17, ["a"] * 100_000],
    ),
    "user": (["ann", ""], []),
    "model": (["any", ""], []),
    "stream": ([True, False], []),
}
WRONG_TYPES: dict[str, list[Any]] = {
    "max_tokens": ["1", 1.0, 1.5, True, [1]],
    "max_completion_tokens": ["1", 1.0, True, {}],
    "temperature": ["1", True, [1], {}],
    "top_p": ["1", True],
    "seed": ["1", 1.0, False],
    "presence_penalty": ["0", True],
    "frequency_penalty": ["0", True],
    "stop": [5, True, {"a": 1}],
    "user": [5, ["ann"], {}],
    "model": [5, ["m"], {}],
    "stream": [1, "true", [], {}],
    "stream_options": [True, "x", []],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, (ok, _) in LIMITED.items() for v in ok])
def test_values_in_range(name: str, value: Any) -> None:
    assert getattr(chat(**{name: value}), name) == value


@pytest.mark.parametrize("name", [*LIMITED, "stream_options"])
def test_null_is_leaving_out(name: str) -> None:
    assert getattr(chat(**{name: None}), name) is None


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (_, bad) in LIMITED.items() for v in bad], ids=repr
)
def test_values_out_of_range(name: str, value: Any) -> None:
    for shape in SHAPES:
        error = refused({"messages": [USER], name: value}, shape)
        assert (error.param, error.code) == (name, "invalid_value")
        assert name in error.message


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, bad in WRONG_TYPES.items() for v in bad], ids=repr
)
def test_values_of_a_wrong_type(name: str, value: Any) -> None:
    error = refused({"messages": [USER], name: value})
    assert (error.param, error.code) == (name, "invalid_type")
    assert name in error.message


def test_stop_strings_are_named_one_by_one() -> None:
    assert refused({"messages": [USER], "stop": ["a", ""]}).param == "stop[1]"
    assert refused({"messages": [USER], "stop": ["a", 1]}).param == "stop[1]"


def test_stops() -> None:
    assert chat().stops() == []
    assert chat(stop="x").stops() == ["x"]
    assert chat(stop=["x", "y"]).stops() == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("The Ebro.", "The Ebro."),
        ([{"type": "text", "text": "The "}, {"type": "text", "text": "Ebro."}], "The Ebro."),
        (" ", " "),
        ("", None),
        ([], None),
        ([{"type": "text", "text": ""}], None),
    ],
)
def test_the_text_of_a_prediction(content: Any, text: str | None) -> None:
    assert chat(prediction={"type": "content", "content": content}).predicted() == text
    assert chat().predicted() is None


def test_the_newer_name_of_max_tokens_wins() -> None:
    assert chat().completion_limit() == (None, "max_tokens")
    assert chat(max_tokens=5).completion_limit() == (5, "max_tokens")
    assert chat(max_tokens=5, max_completion_tokens=6).completion_limit() == (
        6,
        "max_completion_tokens",
    )
    assert chat(n_predict=5).completion_limit() == (5, "n_predict")
    assert chat(n_predict=-1).completion_limit() == (None, "n_predict")
    assert chat(n_predict=5, max_tokens=6).completion_limit() == (6, "max_tokens")
    assert refused({"messages": [USER], "n_predict": 0}).param == "n_predict"


def test_options_that_other_servers_name_or_write_otherwise() -> None:
    def sampling(**fields: Any) -> Sampling:
        return decode.sampling(chat(**fields)).sampling(DEFAULTS)

    assert sampling(repetition_penalty=1.3).repeat_penalty == 1.3
    assert sampling(repetition_penalty=1.3, repeat_penalty=1.2).repeat_penalty == 1.2
    assert (sampling(top_k=-1).top_k, sampling(top_k=0).top_k, sampling().top_k) == (0, 0, 0)
    assert (sampling(seed=-1).seed, sampling(seed=-2).seed, sampling(seed=0).seed) == (None, -2, 0)
    for top_p in (0, 0.0):
        assert sampling(top_p=top_p, temperature=1.5).temperature == 0
    assert (sampling(top_p=0.5).temperature, sampling(top_p=0.5).top_p) == (1, 0.5)
    assert 0 < sampling(top_p=1e-300).top_p < 1e-5
    assert sampling(top_p=1e-300).temperature == 1


def test_as_many_tokens_as_the_server_gives() -> None:
    for value in (None, -1):
        assert chat(max_tokens=value).completion_limit()[0] is None


def test_stream_options() -> None:
    options = chat(stream=True, stream_options={"include_usage": True}).stream_options
    assert options is not None
    assert options.include_usage is True
    chat(stream=True, stream_options={})
    chat(stream=True, stream_options={"include_usage": None, "include_obfuscation": False})
    error = refused({"messages": [USER], "stream": True, "stream_options": {"include_usage": 1}})
    assert (error.param, error.code) == ("stream_options.include_usage", "invalid_type")
    assert told(stream=True, stream_options={"usage": True}) == ["stream_options.usage"]


FUNCTION = {"name": "f"}
TOOL: dict[str, Any] = {"type": "function", "function": FUNCTION}
SCHEMA_FORM: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}

# Fields of both chat routes: values that are taken, and those that are not with param and code.
OPTIONS: dict[str, tuple[list[Any], list[tuple[Any, str, str]]]] = {
    "top_k": (
        [-1, 0, 1, 1_000_000],
        [
            (-2, "top_k", "invalid_value"),
            (1_000_001, "top_k", "invalid_value"),
            (2**70, "top_k", "invalid_value"),
            (1.5, "top_k", "invalid_type"),
            (True, "top_k", "invalid_type"),
            ("40", "top_k", "invalid_type"),
        ],
    ),
    "min_p": (
        [0, 0.05, 1],
        [
            (-0.1, "min_p", "invalid_value"),
            (1.1, "min_p", "invalid_value"),
            ("0", "min_p", "invalid_type"),
        ],
    ),
    "repeat_penalty": (
        [0.1, 1, 10],
        [
            (0, "repeat_penalty", "invalid_value"),
            (-1, "repeat_penalty", "invalid_value"),
            (10.5, "repeat_penalty", "invalid_value"),
            (True, "repeat_penalty", "invalid_type"),
        ],
    ),
    "repetition_penalty": (
        [0.1, 1, 10],
        [
            (0, "repetition_penalty", "invalid_value"),
            (10.5, "repetition_penalty", "invalid_value"),
            ("1", "repetition_penalty", "invalid_type"),
        ],
    ),
    "n_predict": (
        [-1, 1, 2**63 - 1],
        [
            (0, "n_predict", "invalid_value"),
            (-2, "n_predict", "invalid_value"),
            ("5", "n_predict", "invalid_type"),
        ],
    ),
    "ignore_eos": ([True, False], [(1, "ignore_eos", "invalid_type")]),
    "truncation": (
        ["error", "trim"],
        [
            ("auto", "truncation", "invalid_value"),
            ("", "truncation", "invalid_value"),
            (True, "truncation", "invalid_type"),
        ],
    ),
    "logit_bias": (
        [
            {},
            {"0": -100, "128255": 100.0},
            {"5": 0},
            {str(i): 1 for i in range(128_256)},
            {"x": 1, " 1": False, "1.5": -1, "\u0661": 1},
            [],
            [[5, -100], ["x", False], ["7", 1.5]],
            [["x" * 16_384, 1]],
            [[f"x{i}", 1] for i in range(256)],
        ],
        [
            ({str(i): 1 for i in range(300_001)}, "logit_bias", "invalid_value"),
            ({"-1": 1}, "logit_bias", "invalid_type"),
            ({"": 1}, "logit_bias", "invalid_value"),
            ({"+5": 1}, "logit_bias", "invalid_type"),
            ({"x": True}, "logit_bias", "invalid_type"),
            ([[-1, 1]], "logit_bias", "invalid_type"),
            ([[2**70, 1]], "logit_bias", "invalid_type"),
            ([[5, True]], "logit_bias", "invalid_type"),
            ([["", 1]], "logit_bias", "invalid_value"),
            ([["x" * 16_385, 1]], "logit_bias", "invalid_value"),
            ([[f"x{i}", 1] for i in range(257)], "logit_bias", "invalid_value"),
            ([[5]], "logit_bias[0]", "invalid_value"),
            ([[5, 101]], "logit_bias[0][1]", "invalid_value"),
            ([5], "logit_bias[0]", "invalid_type"),
            ("x", "logit_bias", "invalid_type"),
            ({"9" * 11: 1}, "logit_bias", "invalid_type"),
            ({"9" * 5000: 1}, "logit_bias", "invalid_type"),
            ({"1": 100.5}, "logit_bias[...]", "invalid_value"),
            ({"1": -101}, "logit_bias[...]", "invalid_value"),
            ({"1": "x"}, "logit_bias[...]", "invalid_type"),
            ({"1": None}, "logit_bias[...]", "invalid_type"),
        ],
    ),
    "json_schema": (
        [{}, {"type": "object"}],
        [("{}", "json_schema", "invalid_type"), ([], "json_schema", "invalid_type")],
    ),
    "grammar": (['root ::= "a"', ""], [({}, "grammar", "invalid_type")]),
    "guided_json": ([{}, "{}"], [([], "guided_json", "invalid_type")]),
    "guided_regex": (["a*"], [(5, "guided_regex", "invalid_type")]),
    "guided_choice": (
        [["a", "b"]],
        [("a", "guided_choice", "invalid_type"), ([1], "guided_choice[0]", "invalid_type")],
    ),
    "guided_grammar": (['start: "a"'], [(True, "guided_grammar", "invalid_type")]),
    "structured_outputs": (
        [{}, {"json": "{}"}, {"choice": ["a"]}, {"regex": "a"}, {"grammar": "x"}],
        [
            ([], "structured_outputs", "invalid_type"),
            ({"regex": 5}, "structured_outputs.regex", "invalid_type"),
        ],
    ),
    "chat_template_kwargs": (
        [{}, {"enable_thinking": False, "x": [{"y": None}]}],
        [
            ([], "chat_template_kwargs", "invalid_type"),
            (json.loads('{"x": ' * 101 + "1" + "}" * 101), "chat_template_kwargs", "invalid_value"),
        ],
    ),
    "response_format": (
        [
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_object", "schema": {"type": "object"}},
            SCHEMA_FORM,
        ],
        [
            ({"type": "json_object", "schema": []}, "response_format.schema", "invalid_type"),
            ("text", "response_format", "invalid_type"),
            ({}, "response_format.type", "missing_required_parameter"),
            ({"type": "xml"}, "response_format.type", "invalid_value"),
            (
                {"type": "json_schema"},
                "response_format.json_schema",
                "missing_required_parameter",
            ),
            (
                {"type": "json_schema", "json_schema": {"name": "n"}},
                "response_format.json_schema.schema",
                "invalid_value",
            ),
            (
                {"type": "json_schema", "json_schema": {"schema": {}}},
                "response_format.json_schema.name",
                "missing_required_parameter",
            ),
            (
                {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}},
                "response_format.json_schema.name",
                "invalid_value",
            ),
            (
                {"type": "json_schema", "json_schema": {"name": "n", "schema": []}},
                "response_format.json_schema.schema",
                "invalid_type",
            ),
            (
                {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": 1}},
                "response_format.json_schema.strict",
                "invalid_type",
            ),
        ],
    ),
    "prediction": (
        [
            {"type": "content", "content": "x"},
            {"type": "content", "content": [{"type": "text", "text": "x"}]},
            {"type": "content", "content": ""},
            {"type": "content", "content": []},
            {"type": "content", "content": "é" * (decode.MAX_PREDICTION_BYTES // 2)},
        ],
        [
            ("x", "prediction", "invalid_type"),
            ({"type": "content"}, "prediction.content", "missing_required_parameter"),
            ({"type": "guess", "content": "x"}, "prediction.type", "invalid_value"),
            ({"content": "x"}, "prediction.type", "missing_required_parameter"),
            ({"type": "content", "content": None}, "prediction.content", "invalid_type"),
            (
                {"type": "content", "content": [{"type": "image_url", "image_url": {}}]},
                "prediction.content[0].type",
                "invalid_value",
            ),
            (
                {"type": "content", "content": "é" * (decode.MAX_PREDICTION_BYTES // 2) + "x"},
                "prediction",
                "invalid_value",
            ),
            (
                {
                    "type": "content",
                    "content": [{"type": "text", "text": "x" * decode.MAX_PREDICTION_BYTES}] * 2,
                },
                "prediction",
                "invalid_value",
            ),
        ],
    ),
    "metadata": (
        [{}, {"a": "b"}],
        [({"a": 1}, "metadata[...]", "invalid_type"), ([], "metadata", "invalid_type")],
    ),
    "prompt_cache_key": (["k", ""], [(1, "prompt_cache_key", "invalid_type")]),
    "cache_salt": (
        ["k", "k" * 256],
        [(1, "cache_salt", "invalid_type"), ("", "cache_salt", "invalid_value")],
    ),
    "safety_identifier": (["k"], [([], "safety_identifier", "invalid_type")]),
}
# Fields of /v1/chat/completions alone.
CHAT_ONLY: dict[str, tuple[list[Any], list[tuple[Any, str, str]]]] = {
    "n": (
        [1, 2, 128],
        [
            (0, "n", "invalid_value"),
            (-1, "n", "invalid_value"),
            (129, "n", "invalid_value"),
            (2**70, "n", "invalid_value"),
            (1.0, "n", "invalid_type"),
            (True, "n", "invalid_type"),
            ("1", "n", "invalid_type"),
        ],
    ),
    "logprobs": ([True, False], [(0, "logprobs", "invalid_type"), (1, "logprobs", "invalid_type")]),
    "tools": (
        [[], [TOOL], [TOOL] * 128],
        [
            ([TOOL] * 129, "tools", "invalid_value"),
            ({}, "tools", "invalid_type"),
            (["f"], "tools[0]", "invalid_type"),
            ([TOOL, {"type": "custom"}], "tools[1].type", "invalid_value"),
            ([{"type": "function"}], "tools[0].function", "missing_required_parameter"),
            (
                [{"type": "function", "function": {}}],
                "tools[0].function.name",
                "missing_required_parameter",
            ),
            (
                [{"type": "function", "function": {"name": 'f"\n'}}],
                "tools[0].function.name",
                "invalid_value",
            ),
            (
                [{"type": "function", "function": {"name": "f" * 65}}],
                "tools[0].function.name",
                "invalid_value",
            ),
            (
                [{"type": "function", "function": {"name": "f", "parameters": []}}],
                "tools[0].function.parameters",
                "invalid_type",
            ),
        ],
    ),
    "tool_choice": (
        ["none", "auto", "required", {"type": "function", "function": {"name": "f"}}],
        [
            ("any", "tool_choice", "invalid_value"),
            (5, "tool_choice", "invalid_type"),
            (
                {"type": "function"},
                "tool_choice.function",
                "missing_required_parameter",
            ),
            ({"type": "allowed_tools"}, "tool_choice.type", "invalid_value"),
        ],
    ),
    "parallel_tool_calls": ([True, False], [(1, "parallel_tool_calls", "invalid_type")]),
    "functions": (
        [[], [FUNCTION], [FUNCTION] * 128],
        [
            ([FUNCTION] * 129, "functions", "invalid_value"),
            ([{}], "functions[0].name", "missing_required_parameter"),
            (["f"], "functions[0]", "invalid_type"),
            (
                [FUNCTION, {"name": "g", "parameters": []}],
                "functions[1].parameters",
                "invalid_type",
            ),
        ],
    ),
    "function_call": (
        ["none", "auto", {"name": "f"}],
        [
            ("required", "function_call", "invalid_value"),
            (5, "function_call", "invalid_type"),
            ({}, "function_call.name", "missing_required_parameter"),
        ],
    ),
}
TAKEN = [(n, v) for n, (ok, _) in (OPTIONS | CHAT_ONLY).items() for v in ok]
REFUSED = [(n, v, param, code) for n, (_, bad) in OPTIONS.items() for v, param, code in bad]
REFUSED_BY_CHAT = [
    (n, v, param, code) for n, (_, bad) in CHAT_ONLY.items() for v, param, code in bad
]


@pytest.mark.parametrize(("name", "value"), TAKEN, ids=lambda value: str(value)[:30])
def test_values_that_are_taken(name: str, value: Any) -> None:
    found = msgspec.to_builtins(getattr(chat(**{name: value}), name))
    assert found is not None
    assert found == value or isinstance(value, dict | list)


@pytest.mark.parametrize("name", [*OPTIONS, *CHAT_ONLY, "top_logprobs"])
def test_null_is_leaving_an_option_out(name: str) -> None:
    assert chat(**{name: None}) == chat()


@pytest.mark.parametrize(
    ("name", "value", "param", "code"), REFUSED, ids=lambda value: str(value)[:30]
)
def test_bad_options(name: str, value: Any, param: str, code: str) -> None:
    for shape in SHAPES:
        error = refused({"messages": [USER], name: value}, shape)
        assert (error.param, error.code) == (param, code)
        assert len(error.message) < 500


@pytest.mark.parametrize(
    ("name", "value", "param", "code"), REFUSED_BY_CHAT, ids=lambda value: str(value)[:30]
)
def test_bad_fields_of_the_chat_route(name: str, value: Any, param: str, code: str) -> None:
    error = refused({"messages": [USER], name: value})
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": False}, "top_logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 1}, "top_logprobs"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": False, "stream_options": {}}, "stream_options"),
    ],
)
def test_fields_that_need_another(fields: dict[str, Any], param: str) -> None:
    assert refused({"messages": [USER], **fields}).param == param


def test_wanted_logprobs() -> None:
    assert chat().wanted_logprobs() is None
    assert chat(logprobs=False).wanted_logprobs() is None
    assert chat(logprobs=True).wanted_logprobs() == 0
    assert chat(logprobs=True, top_logprobs=20).wanted_logprobs() == 20


def test_a_tool_as_the_model_sees_it() -> None:
    parameters = {"properties": {"a": {}}, "type": "object"}
    fields = {"name": "f", "description": "d", "parameters": parameters, "strict": True}
    (tool,) = chat(tools=[{"type": "function", "function": fields}]).tools or []
    (function,) = decode.offered_functions([tool])
    assert function.as_json() == {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": parameters},
    }
    (bare,) = chat(tools=[TOOL]).tools or []
    assert decode.offered_functions([bare])[0].as_json() == TOOL


def test_the_arguments_of_a_function_are_an_object() -> None:
    def schema(**function: Any) -> dict[str, Any]:
        (tool,) = chat(tools=[{"type": "function", "function": FUNCTION | function}]).tools or []
        return decode.offered_functions([tool])[0].schema()

    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    assert schema() == schema(parameters=None) == nothing
    assert schema(parameters={}) == {"type": "object"}
    assert schema(parameters={"$ref": "#/$defs/X"}) == {"type": "object", "$ref": "#/$defs/X"}
    assert schema(parameters={"type": "string"}) == {"type": "string"}


# What a field's neutral value is where the field is not supported.
NEUTRAL: dict[str, list[Any]] = {
    "modalities": [["text"]],
    "store": [False],
    "service_tier": ["auto", "default"],
    "verbosity": ["medium"],
    "reasoning_effort": ["none"],
    "prompt_cache_retention": ["in_memory", "in-memory", "24h"],
    "audio": [],
    "web_search_options": [],
    "moderation": [],
    "grammar_lazy": [False],
    "grammar_triggers": [[]],
    "prompt_cache_options": [],
}
UNSUPPORTED: dict[str, list[Any]] = {
    "modalities": [["text", "audio"], []],
    "audio": [{"voice": "x"}],
    "web_search_options": [{}],
    "moderation": [{}],
    "grammar_lazy": [True],
    "grammar_triggers": [[{"type": 0, "value": "x"}]],
}
EFFECTLESS: dict[str, list[Any]] = {
    "store": [True, "no", 0],
    "service_tier": ["flex", "priority", 5],
    "verbosity": ["low", "high"],
    "reasoning_effort": ["minimal", "low", "medium", "high", "xhigh", "a lot"],
    "prompt_cache_retention": ["for ever", 5],
    "prompt_cache_options": [{"mode": "explicit"}],
}
NOT_FOR_SIMPLE: dict[str, list[Any]] = {
    "n": [2, True],
    "stream": [True],
    "logprobs": [True],
    "top_logprobs": [1, False],
    "tools": [[TOOL]],
    "tool_choice": ["required"],
    "parallel_tool_calls": [1],
    "functions": [[FUNCTION]],
    "function_call": [{"name": "f"}, "required"],
    "stream_options": [{}],
}
NOTHING_FOR_SIMPLE: dict[str, list[Any]] = {
    "n": [1],
    "stream": [False],
    "logprobs": [False],
    "top_logprobs": [0],
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "parallel_tool_calls": [True, False],
    "functions": [[]],
    "function_call": ["none", "auto"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in NEUTRAL.items() for v in vs])
def test_neutral_values_of_unsupported_fields_pass(name: str, value: Any) -> None:
    for shape in SHAPES:
        for nothing in (value, None):
            body = {"messages": [USER], name: nothing}
            assert told(shape, **body) == []
            data = json.dumps(body).encode()
            assert decode_request(data, shape, strict=True) == decode_request(data, shape)


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, vs in UNSUPPORTED.items() for v in vs], ids=repr
)
def test_other_values_of_unsupported_fields_are_refused(name: str, value: Any) -> None:
    for shape in SHAPES:
        for strict in (False, True):
            error = refused({"messages": [USER], name: value}, shape, strict)
            assert (error.param, error.code) == (name, "unsupported_parameter")
            assert name in error.message


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, vs in EFFECTLESS.items() for v in vs], ids=repr
)
def test_what_changes_no_answer_is_accepted_and_named(name: str, value: Any) -> None:
    read = decode.read(json.dumps({"messages": [USER], name: value}).encode())
    plain = decode.read(json.dumps({"messages": [USER]}).encode())
    assert decode.asked(read.request, [], Offer(), history=None) == decode.asked(
        plain.request, [], Offer(), history=None
    )
    for shape in SHAPES:
        assert told(shape, **{name: value}) == [name]
        error = refused({"messages": [USER], name: value}, shape, strict=True)
        assert (error.param, error.code) == (name, "unsupported_parameter")


def test_the_tables_here_are_those_of_the_server() -> None:
    assert set(EFFECTLESS) == set(neutral.EFFECTLESS)
    assert set(NEUTRAL) - set(EFFECTLESS) == set(UNSUPPORTED)
    assert set(UNSUPPORTED) | set(NOT_FOR_SIMPLE) == set(neutral.NEUTRAL)
    assert set(NOTHING_FOR_SIMPLE) | {"stream_options"} == set(NOT_FOR_SIMPLE)


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, vs in NOT_FOR_SIMPLE.items() for v in vs], ids=repr
)
def test_what_only_the_chat_route_does(name: str, value: Any) -> None:
    error = refused({"message": "hi", name: value}, SimpleChatRequest)
    assert (error.param, error.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, vs in NOTHING_FOR_SIMPLE.items() for v in vs], ids=repr
)
def test_what_asks_nothing_of_the_simple_route(name: str, value: Any) -> None:
    for asked in (value, None):
        assert told(SimpleChatRequest, **{name: asked}) == []


def test_a_refusal_is_text_where_an_assistant_said_it() -> None:
    parts = [{"type": "text", "text": "a"}, {"refusal": "No.", "type": "refusal"}]
    for shape in SHAPES:
        data = json.dumps({"messages": [USER, {"role": "assistant", "content": parts}]}).encode()
        request = cast("ChatRequest", decode_request(data, shape, strict=True))
        assert decode.to_message((request.messages or [])[1], 1).text == "aNo."
    for role in ("system", "user", "developer"):
        error = refused({"messages": [{"role": role, "content": parts}]})
        assert error.param == "messages[0].content[1].type"


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
@pytest.mark.parametrize("role", ["system", "user", "assistant", "developer"])
def test_parts_that_are_no_text_are_named(role: str, kind: str) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": kind, kind: {}}]
    error = refused({"messages": [{"role": role, "content": parts}]})
    assert error.param == "messages[0].content[1].type"
    assert kind in error.message


def tokens_of(**fields: Any) -> TokenizeRequest:
    return decode_request(json.dumps(fields).encode(), TokenizeRequest)


def test_what_can_be_tokenized() -> None:
    assert tokens_of(text="").text == ""
    assert tokens_of(text="x", model="m", messages=None, tools=[]).model == "m"
    request = tokens_of(messages=[USER], tools=[TOOL])
    assert request.messages == [openai.UserMessage(content="hi")]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "text"),
        ({"text": "x", "messages": [USER]}, "text"),
        ({"text": 5}, "text"),
        ({"text": "x", "tools": [TOOL]}, "tools"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"content": "x"}, "text"),
    ],
)
def test_what_cannot_be_tokenized(fields: dict[str, Any], param: str) -> None:
    assert refused(fields, TokenizeRequest).param == param


@pytest.mark.parametrize(
    ("tokens", "param"),
    [
        (None, "tokens"),
        ("5", "tokens"),
        (["5"], "tokens[0]"),
        ([1, -1], "tokens[1]"),
        ([2**31], "tokens[0]"),
        ([2**70], "tokens[0]"),
        ([1.0], "tokens[0]"),
        ([True], "tokens[0]"),
        ([1] * (MAX_DETOKENIZED + 1), "tokens"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_detokenized(tokens: Any, param: str) -> None:
    assert refused({"tokens": tokens}, DetokenizeRequest).param == param


def test_what_can_be_detokenized() -> None:
    for tokens in ([], [0], [2**31 - 1]):
        body = json.dumps({"tokens": tokens}).encode()
        assert decode_request(body, DetokenizeRequest).tokens == tokens


def simple(**fields: Any) -> SimpleChatRequest:
    return decode_request(json.dumps(fields).encode(), SimpleChatRequest)


def test_the_simple_route_takes_a_message_or_messages() -> None:
    body = simple(message="hi", history=[USER], system="brief", temperature=0)
    assert (body.message, body.system, body.temperature) == ("hi", "brief", 0)
    assert body.history == [openai.UserMessage(content="hi")]
    assert simple(messages=[USER]).messages == [openai.UserMessage(content="hi")]
    assert simple(message="hi", history=[]).history == []
    assert simple().message is None  # which chat.simple_messages refuses


def test_the_simple_route_does_not_stream() -> None:
    assert simple(message="hi", stream=False) == simple(message="hi")
    error = refused({"message": "hi", "stream": True}, SimpleChatRequest)
    assert (error.param, error.code) == ("stream", "unsupported_parameter")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"message": 5}, "message"),
        ({"message": "x", "system": ["y"]}, "system"),
        ({"message": "x", "history": "y"}, "history"),
        ({"message": "x", "history": [USER, {"role": "user"}]}, "history[1].content"),
        ({"messages": []}, "messages"),
    ],
)
def test_bad_simple_bodies(fields: dict[str, Any], param: str) -> None:
    assert refused(fields, SimpleChatRequest).param == param


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.sampled_from(["user", "assistant", "tool", "system", "text", "function", "image_url"])
)
field_names = st.sampled_from(
    ["role", "content", "type", "text", "tool_calls", "id", "function", "name", "arguments", "x"]
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(field_names, inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(
    st.sampled_from(
        [*ChatRequest.__struct_fields__, *NEUTRAL, "message", "history", "system", "tokens"]
    )
    | st.text(max_size=5),
    values,
    max_size=5,
)


def outcome(data: bytes, shape: Any) -> Any:
    try:
        return decode_request(data, shape)
    except ServiceError as error:
        return error


def takes_or_refuses(data: bytes) -> None:
    for shape in ALL_SHAPES:
        result = outcome(data, shape)
        assert isinstance(result, shape | ServiceError)
        if isinstance(result, ServiceError):
            assert kind(result).status == 400
            errors.body(result, OPENAI)


@given(bodies, st.booleans())
def test_any_object_is_a_request_or_an_error(body: dict[str, Any], valid: bool) -> None:
    if valid:
        body["messages"] = [USER]
    takes_or_refuses(json.dumps(body).encode())


@given(
    st.binary()
    | st.text(st.characters(exclude_categories=[])).map(lambda s: json.dumps(s).encode())
)
def test_any_bytes_are_a_request_or_an_error(data: bytes) -> None:
    takes_or_refuses(data)


@given(st.lists(values, max_size=3))
def test_any_messages_are_a_request_or_an_error(messages: list[Any]) -> None:
    takes_or_refuses(json.dumps({"messages": messages}).encode())


@given(st.data())
def test_a_request_cut_or_changed_anywhere_is_a_request_or_an_error(data: st.DataObject) -> None:
    body = bytearray(json.dumps({"messages": [USER], "stop": ["x"], "seed": 5}).encode())
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] = data.draw(st.integers(0, 255))
    takes_or_refuses(bytes(body[: data.draw(st.integers(0, len(body)))]))
    takes_or_refuses(bytes(body))


FIRST_REQUESTS = """
import gc, sys, threading
from sheily_server.backend.sampling import defaults
from sheily_server.config import Config
from sheily_server.errors import InvalidRequestError
from tests.support.wire import READ

gc.set_threshold(5)  # threads take turns in the middle of many things
start = threading.Barrier(8)

def ask():
    start.wait()
    for read in READ.values():
        try:
            read(b'{"messages": [{"role": "user", "content": "a"}]}')
        except InvalidRequestError:
            pass

threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_the_first_requests_of_a_process_may_come_together() -> None:
    """msgspec crashes where threads are the first to decode into a class at once."""
    for _ in range(3):
        subprocess.run([sys.executable, "-c", FIRST_REQUESTS], check=True, timeout=60, cwd=ROOT)


# --- continuing the last message ------------------------------------------------------------------

BEGUN = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "I"}]


def continued(messages: Any = BEGUN, **fields: Any) -> bool:
    body = json.dumps({"messages": messages} | fields).encode()
    return decode.generation(decode.read(body), None).continues


def test_a_last_message_of_the_assistant_is_continued() -> None:
    assert continued()
    assert continued(continue_final_message=True)
    assert continued(add_generation_prompt=False)
    assert not continued(add_generation_prompt=True)
    assert not continued(continue_final_message=False)
    assert not continued(BEGUN[:1])
    assert not continued(BEGUN[1:])  # nothing is before it
    assert not continued([BEGUN[0], {"role": "assistant", "content": ""}])


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        (BEGUN[:1], {}),
        (BEGUN[1:], {}),
        ([BEGUN[0], {"role": "assistant", "content": ""}], {}),
        (BEGUN, {"add_generation_prompt": True}),
    ],
)
def test_what_cannot_be_continued(messages: Any, fields: Any) -> None:
    with pytest.raises(ServiceError) as raised:
        continued(messages, continue_final_message=True, **fields)
    assert raised.value.param == "continue_final_message"
