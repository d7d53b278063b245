"""What a request may have besides the fields that the server knows: accepted and named, and refused
under LLM_STRICT. The older names of fields that it knows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sheily_server.api import nesting
from sheily_server.api.openai_chat import decode
from sheily_server.api.openai_chat.protocol import ChatRequest
from sheily_server.api.tokens import DetokenizeRequest, TokenizeRequest
from sheily_server.errors import ServiceError
from sheily_server.templates.base import Offer
from tests.support.wire import ignored
from tests.unit.api.openai_chat.test_decode import (
    CALL,
    FUNCTION,
    SHAPES,
    TOOL,
    USER,
    chat,
    refused,
    talk,
    told,
)

# Bodies of clients with fields that nobody here knows, their names, and the first one's place.
PART = {"type": "text", "text": "x"}
UNKNOWN: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "a typo": ({"temprature": 1}, ["temprature"], "temprature"),
    "null": ({"temprature": None}, ["temprature"], "temprature"),
    "other servers' options": (
        {
            "guided_decoding_backend": "xgrammar",
            "cache_prompt": True,
            "structured_outputs": {"disable_fallback": True},
        },
        ["guided_decoding_backend", "cache_prompt", "structured_outputs.disable_fallback"],
        "guided_decoding_backend",
    ),
    "reasoning in a history": (
        {
            "messages": [
                USER,
                {"role": "assistant", "content": "x", "reasoning_content": "y"},
                USER,
                {"role": "assistant", "content": "x", "reasoning_content": "y"},
                USER,
            ]
        },
        ["messages[].reasoning_content"],
        "messages[1].reasoning_content",
    ),
    "marks for a cache": (
        {
            "messages": [
                USER,
                {"role": "user", "content": [PART, PART | {"cache_control": {"type": "x"}}]},
            ]
        },
        ["messages[].content[].cache_control"],
        "messages[1].content[1].cache_control",
    ),
    "another role's field": (
        {"messages": [USER | {"tool_calls": []}]},
        ["messages[].tool_calls"],
        "messages[0].tool_calls",
    ),
}
UNKNOWN_TO_CHAT: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "in a tool": (
        {"tools": [TOOL, {"type": "function", "function": FUNCTION | {"x": 1}, "y": 1}]},
        ["tools[].function.x", "tools[].y"],
        "tools[1].function.x",
    ),
    "in an older tool": ({"functions": [FUNCTION | {"x": 1}]}, ["functions[].x"], "functions[0].x"),
    "in a choice": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": FUNCTION | {"x": 1}}},
        ["tool_choice.function.x"],
        "tool_choice.function.x",
    ),
    "in a call": (
        {"messages": [{"role": "assistant", "tool_calls": [CALL | {"x": 1}]}]},
        ["messages[].tool_calls[].x"],
        "messages[0].tool_calls[0].x",
    ),
    "in a format": (
        {"response_format": {"x": 1, "type": "text"}},
        ["response_format.x"],
        "response_format.x",
    ),
    "in a prediction": (
        {"prediction": {"type": "content", "content": "x", "more": 1}},
        ["prediction.more"],
        "prediction.more",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN | UNKNOWN_TO_CHAT)
def test_unknown_fields_are_accepted_and_named(name: str) -> None:
    fields, names, place = (UNKNOWN | UNKNOWN_TO_CHAT)[name]
    for shape in SHAPES if name in UNKNOWN else [ChatRequest]:
        assert told(shape, **fields) == names
        error = refused({"messages": [USER], **fields}, shape, strict=True)
        assert (error.param, error.code) == (place, "unknown_parameter")
        assert place in error.message


def test_what_is_inside_a_schema_is_the_schema_s() -> None:
    parameters = {"x": 1, "properties": {"y": {"z": 1}}}
    tool = {"type": "function", "function": FUNCTION | {"parameters": parameters}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": parameters}}
    assert told(tools=[tool], response_format=form, metadata={"a": "b"}) == []


def test_unknown_fields_of_the_routes_for_tokens() -> None:
    for body, shape, names in (
        ({"text": "x", "add_special": True}, TokenizeRequest, ["add_special"]),
        ({"messages": [USER | {"x": 1}]}, TokenizeRequest, ["messages[].x"]),
        ({"tokens": [1], "x": 1, "store": True}, DetokenizeRequest, ["store", "x"]),
    ):
        assert ignored(json.dumps(body).encode(), shape) == names
        assert refused(body, shape, strict=True).param in (
            "store",
            *(name.replace("[]", "[0]") for name in names),
        )


def test_what_is_refused_is_refused_beside_unknown_fields() -> None:
    assert refused({"messages": [USER], "temprature": 1, "temperature": 9}).param == "temperature"
    assert refused({"messages": [USER], "x": 1, "audio": {}}).param == "audio"


# --- the older form of tools ----------------------------------------------------------------------


def test_functions_are_tools() -> None:
    def offers(**fields: Any) -> Offer:
        return decode.offer(chat(**fields))

    functions = [{"name": "f", "parameters": {"type": "object"}}, {"name": "g"}]
    tools = [{"type": "function", "function": function} for function in functions]

    for older, newer in (
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ({"name": "g"}, {"type": "function", "function": {"name": "g"}}),
    ):
        one = offers(functions=functions, function_call=older)
        other = offers(tools=tools, tool_choice=newer)
        assert one.forced == other.forced == isinstance(older, dict)
        assert [replace(each, place="") for each in one.functions] == [
            replace(each, place="") for each in other.functions
        ]
    assert offers(tools=tools[:1], functions=functions[1:]).functions[0].name == "f"
    assert offers(functions=functions, function_call="auto", tool_choice="none") == Offer()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"functions": [FUNCTION], "function_call": {"name": "g"}}, "function_call.name"),
        ({"functions": [FUNCTION, FUNCTION]}, "functions[1].name"),
        (
            {
                "functions": [FUNCTION | {"parameters": {"type": "string"}}],
                "function_call": {"name": "f"},
            },
            "functions[0].parameters",
        ),
        (
            {"tools": [TOOL], "tool_choice": {**TOOL, "function": {"name": "g"}}},
            "tool_choice.function.name",
        ),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
    ],
)
def test_what_cannot_be_offered_is_named_as_it_came(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ServiceError) as caught:
        decode.offer(chat(**fields))
    assert caught.value.param == param
    assert param.partition("[")[0].partition(".")[0] in (*fields, "tools")


def test_a_deep_schema_is_named_as_it_came() -> None:
    schema: dict[str, Any] = {}
    for _ in range(nesting.MAX_NESTING):
        schema = {"items": schema}
    body = {"messages": [USER], "functions": [FUNCTION, {"name": "g", "parameters": schema}]}
    assert refused(body).param == "functions[1].parameters"


def test_older_calls_and_results_are_calls_and_results() -> None:
    call = {"name": "f", "arguments": '{"a": 1}'}
    request = talk(
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": "25 C"},
        {"role": "function", "name": "f", "content": None},
    )
    said, result, nothing = (decode.to_message(m, i) for i, m in enumerate(request.messages))
    assert [(each.name, each.arguments) for each in said.tool_calls] == [("f", {"a": 1})]
    assert (result.role, result.text) == ("tool", "25 C")
    assert (nothing.role, nothing.text) == ("tool", "")
    bad = talk({"role": "assistant", "content": None, "function_call": call | {"arguments": "["}})
    with pytest.raises(ServiceError) as caught:
        decode.to_message(bad.messages[0], 3)
    assert caught.value.param == "messages[3].function_call.arguments"
