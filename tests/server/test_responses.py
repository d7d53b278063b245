"""POST /v1/responses over the fake engine: whole answers, streams, tools, what is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.conftest import make
from tests.support.responses import checked, joined, post, respond, stream, text_of
from tests.support.serving import Server, completion

pytestmark = pytest.mark.http

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "name": "weather", "parameters": CITY}
CALL = '{"name": "weather", "parameters": {"city": "A Coruña"}}'
ARGUMENTS = {"city": "A Coruña"}
LOGPROBS = ["message.output_text.logprobs"]


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model takes tools."""
    server = make(tmp_path_factory.mktemp("server"), "--dialect", "llama3")
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


def show(server: Server, input: Any = "show", **fields: Any) -> Any:
    """The Submit command that a request becomes; its last user message is `show`."""
    return json.loads(text_of(respond(server, input, **fields)))


def prompt(command: Any) -> str:
    return "".join(text for text, _ in command["segments"])


def chat_prompt(server: Server, *messages: dict[str, Any], **fields: Any) -> str:
    """The prompt of the same conversation on the chat route."""
    answer = server.ask("POST", "/v1/chat/completions", {"messages": messages, **fields}).json()
    return prompt(json.loads(answer["choices"][0]["message"]["content"]))


def error_of(server: Server, input: Any = "x", **fields: Any) -> tuple[Any, Any, str]:
    """Param, code and message of a 400, which a stream gets too."""
    answer = post(server, input, **fields)
    assert answer.status == 400, answer.body
    streamed = post(server, input, **{"stream": True} | fields)
    assert (streamed.status, streamed.error()) == (400, answer.error())
    error = answer.error()
    return error["param"], error["code"], error["message"]


# Whole answers and streams


def test_a_response(server: Server) -> None:
    before = int(time.time())
    body = respond(server, "one two three")
    key = body.pop("id").removeprefix("resp_")
    assert re.fullmatch("[0-9a-f]{32}", key)
    assert before <= body.pop("created_at") <= body.pop("completed_at") <= time.time()
    n_prompt = body["usage"]["input_tokens"]
    assert body.pop("timings")["predicted_n"] == 3
    assert body == {
        "object": "response",
        "status": "completed",
        "model": "fake-model",
        "output": [
            {
                "id": f"msg_{key}o0",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {
                        "type": "output_text",
                        "text": "one two three",
                        "annotations": [],
                        "logprobs": [],
                    }
                ],
            }
        ],
        "usage": {
            "input_tokens": n_prompt,
            "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": n_prompt - 1},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": n_prompt + 3,
        },
        "error": None,
        "incomplete_details": None,
        "background": False,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
        "sheily": {},
    }


def test_a_stream_in_openais_order(server: Server) -> None:
    events = stream(server, "one two")
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["response"]["status"] for event in events[:2]] == ["in_progress"] * 2
    assert [event["delta"] for event in events[4:6]] == ["one", " two"]
    assert events[6]["text"] == events[7]["part"]["text"] == "one two"
    assert {event["item_id"] for event in events[3:8]} == {events[2]["item"]["id"]}
    assert {event["output_index"] for event in events[2:9]} == {0}
    assert events[2]["item"]["content"] == []
    assert [events[8]["item"]] == events[-1]["response"]["output"]
    assert events[-1]["response"]["usage"]["output_tokens"] == 2


def neutral(body: dict[str, Any]) -> str:
    """A response without what differs each time: ids, and when."""
    text = re.sub(r"_[0-9a-f]{32}|call_[0-9a-f]{24}", "ID", json.dumps(body))
    return re.sub(r'"(created_at|completed_at|\w+_ms|\w+_per_second)": [\d.]+', "", text)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "one dós tres"},
        {"input": ""},
        {"input": "one two three", "max_output_tokens": 2},
        {"input": "one two", "include": LOGPROBS, "top_logprobs": 2},
        {"input": "timed-out"},
        {"input": [{"role": "user", "content": "a"}], "colour": "red", "metadata": {"a": "b"}},
        {"input": CALL, "tools": [WEATHER]},
        {"input": f"{CALL}; {CALL}", "tools": [WEATHER]},
        {"input": CALL, "tools": [WEATHER], "max_output_tokens": 5},
        {"input": "no call", "tools": [WEATHER], "tool_choice": "auto", "temperature": 0},
    ],
)
def test_a_stream_ends_in_the_whole_response(llama3: Server, fields: dict[str, Any]) -> None:
    fields = dict(fields)
    input = fields.pop("input")
    body = respond(llama3, input, **fields)
    events = stream(llama3, input, **fields)
    assert neutral(events[-1]["response"]) == neutral(body)
    assert joined(events) == text_of(body)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]


def test_an_empty_answer_is_an_empty_message(server: Server) -> None:
    assert [item["content"][0]["text"] for item in respond(server, "")["output"]] == [""]


@pytest.mark.parametrize("input", ["one two three", "timed-out"])
def test_an_answer_that_is_cut_off_is_incomplete(server: Server, input: str) -> None:
    body = respond(server, input, max_output_tokens=2)
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["completed_at"] is None
    assert body["output"][0]["status"] == "incomplete"
    assert body["sheily"].get("timed_out", False) == (input == "timed-out")
    assert stream(server, input, max_output_tokens=2)[-1]["type"] == "response.incomplete"


def test_logprobs(server: Server) -> None:
    body = respond(server, "one two", include=LOGPROBS, top_logprobs=1)
    (part,) = body["output"][0]["content"]
    assert [each["token"] for each in part["logprobs"]] == ["one", " two"]
    assert [len(each["top_logprobs"]) for each in part["logprobs"]] == [1, 1]
    events = stream(server, "one two", include=LOGPROBS)
    deltas = [each for each in events if each["type"] == "response.output_text.delta"]
    assert [each["logprobs"][0]["token"] for each in deltas] == ["one", " two"]
    assert joined(events) == "one two"
    assert "sheily" not in body or "ignored" not in body["sheily"]


def test_what_was_asked_is_told_again(server: Server) -> None:
    fields: dict[str, Any] = {
        "instructions": "Be brief.",
        "max_output_tokens": 7,
        "max_tool_calls": 3,
        "metadata": {"topic": "rivers"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "store": False,
        "temperature": 0.5,
        "tool_choice": "none",
        "top_logprobs": 2,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "u",
    }
    body = respond(server, "a", **fields)
    assert {name: body[name] for name in fields} == fields
    tool = {**WEATHER, "description": "d", "strict": True}
    body = respond(server, "a", tools=[tool, {"type": "function", "name": "f"}])
    assert body["tools"][0] == tool
    assert body["tools"][1]["strict"] is False
    for form in ({"type": "text"}, {"type": "json_object"}):
        assert respond(server, "a", text={"format": form})["text"]["format"] == form


def test_what_has_no_effect_is_named(server: Server) -> None:
    ignored = respond(
        server,
        [{"type": "reasoning", "id": "rs_1", "summary": []}, {"role": "user", "content": "a"}],
        reasoning={"effort": "high"},
        service_tier="flex",
        text={"verbosity": "low"},
        include=["reasoning.encrypted_content"],
        colour="red",
    )["sheily"]["ignored"]
    assert sorted(ignored) == [
        "colour",
        "include[0]",
        "input[].reasoning",
        "reasoning",
        "service_tier",
        "text.verbosity",
    ]
    plain = respond(
        server,
        "a",
        reasoning={"effort": "none"},
        service_tier="auto",
        text={"verbosity": "medium"},
        stream_options=None,
        max_tool_calls=3,
    )
    assert plain["sheily"] == {}


def test_too_many_tokens_are_clamped(server: Server) -> None:
    told = respond(server, "a", max_output_tokens=10_000)
    assert told["sheily"]["clamped"] == {"max_output_tokens": 100}
    assert told["max_output_tokens"] == 10_000


# Input


def test_items_become_the_messages_of_the_chat_route(server: Server) -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "b", "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": "c"},
            ],
        },
        {"role": "user", "content": [{"type": "text", "text": "show"}]},
    ]
    assert prompt(show(server, items)) == chat_prompt(
        server,
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "bc"},
        {"role": "user", "content": "show"},
    )


def test_instructions_are_the_first_system_message(server: Server) -> None:
    assert prompt(show(server, instructions="Be brief.")) == chat_prompt(
        server, {"role": "system", "content": "Be brief."}, {"role": "user", "content": "show"}
    )


def test_calls_and_results_become_those_of_the_chat_route(llama3: Server) -> None:
    items = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "a"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city": "b"'},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "rainy"}],
        },
        {"role": "user", "content": "show"},
    ]

    def call(id: str, city: str) -> dict[str, Any]:
        arguments = json.dumps({"city": city})
        return {
            "id": id,
            "type": "function",
            "function": {"name": "weather", "arguments": arguments},
        }

    chat_tool = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
    assert prompt(show(llama3, items, tools=[WEATHER])) == chat_prompt(
        llama3,
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [call("c1", "a"), call("c2", "b")],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "rainy"},
        {"role": "user", "content": "show"},
        tools=[chat_tool],
    )


def test_options_reach_the_engine(server: Server) -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 3,
        "min_p": 0.125,
        "seed": 7,
        "repeat_penalty": 1.5,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
    }
    command = show(server, stop=["x"], max_output_tokens=9, **fields)
    assert {name: command["sampling"][name] for name in fields} == fields
    assert (command["stop"], command["max_tokens"]) == (["x"], 9)
    assert show(server, top_logprobs=2)["top_logprobs"] == 2
    assert show(server, include=LOGPROBS)["top_logprobs"] == 0
    assert show(server)["top_logprobs"] is None


def test_formats_are_those_of_the_chat_route(server: Server) -> None:
    def grammar(form: Any) -> Any:
        return show(server, text={"format": form})["grammar"]

    def of_chat(form: Any) -> Any:
        body = server.ask(
            "POST", "/v1/chat/completions", completion("show", response_format=form)
        ).json()
        return json.loads(body["choices"][0]["message"]["content"])["grammar"]

    assert grammar({"type": "text"}) is None
    assert grammar({"type": "json_object"})["lark"] == of_chat({"type": "json_object"})["lark"]
    of_object = grammar({"type": "json_object", "schema": CITY})
    assert of_object["lark"] == of_chat({"type": "json_object", "schema": CITY})["lark"]
    assert list(of_object["schemas"]) == ["text.format.schema"]
    for strict in (True, False):
        schema = {"name": "city", "schema": CITY, "strict": strict}
        mine = grammar({"type": "json_schema", **schema})
        assert mine["lark"] == of_chat({"type": "json_schema", "json_schema": schema})["lark"]
        assert mine["param"] == "text.format.schema"
        assert list(mine["schemas"]) == ["text.format.schema"]


def test_truncation(server: Server) -> None:
    talk = [{"role": role, "content": "word " * 9} for role in ("user", "assistant") * 2]
    talk.append({"role": "user", "content": "trim 20"})
    assert respond(server, talk, truncation="auto")["sheily"] == {"dropped_messages": 4}
    answer = post(server, talk, truncation="disabled")
    assert answer.status == 400
    error = answer.error()
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    assert "truncation: auto" in error["message"]


# Tools


def test_a_call(llama3: Server) -> None:
    body = respond(llama3, CALL, tools=[WEATHER])
    (call,) = body["output"]
    assert re.fullmatch(r"fc_[0-9a-f]{32}o0", call["id"])
    assert re.fullmatch(r"call_[0-9a-f]{24}", call["call_id"])
    assert (call["type"], call["name"], call["status"]) == ("function_call", "weather", "completed")
    assert json.loads(call["arguments"]) == ARGUMENTS
    assert body["status"] == "completed"


def test_calls_in_a_stream(llama3: Server) -> None:
    events = stream(llama3, f"{CALL}; {CALL}", tools=[WEATHER])
    for index in (0, 1):
        mine = [event for event in events if event.get("output_index") == index]
        assert mine[0]["type"] == "response.output_item.added"
        assert mine[0]["item"]["status"] == "in_progress"
        assert mine[0]["item"]["arguments"] == ""
        *deltas, done, end = mine[1:]
        assert {each["type"] for each in deltas} == {"response.function_call_arguments.delta"}
        assert "".join(each["delta"] for each in deltas) == done["arguments"]
        assert json.loads(done["arguments"]) == ARGUMENTS
        assert done["type"] == "response.function_call_arguments.done"
        assert {each["item_id"] for each in [*deltas, done]} == {end["item"]["id"]}
        assert end["item"]["call_id"] == mine[0]["item"]["call_id"]
    assert len({item["call_id"] for item in events[-1]["response"]["output"]}) == 2


def test_text_before_a_call_is_an_item_of_its_own(llama3: Server) -> None:
    body = respond(llama3, f"I look. {CALL}", tools=[WEATHER])
    assert [item["type"] for item in body["output"]] == ["message", "function_call"]
    assert [item["id"][-2:] for item in body["output"]] == ["o0", "o1"]


def test_a_call_that_is_cut_off_is_incomplete(llama3: Server) -> None:
    body = respond(llama3, CALL, tools=[WEATHER], max_output_tokens=5)
    assert body["status"] == "incomplete"
    assert [item["status"] for item in body["output"]] == ["incomplete"]
    again = [{"role": "user", "content": "show"}]
    assert "weather" in prompt(show(llama3, again, previous_response_id=body["id"]))


@pytest.mark.parametrize(
    ("choice", "names", "forced"),
    [
        ("auto", ["f", "g"], False),
        ("none", [], False),
        ("required", ["f", "g"], True),
        ({"type": "function", "name": "g"}, ["g"], True),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}],
            },
            ["f"],
            False,
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "g"}],
            },
            ["g"],
            True,
        ),
    ],
)
def test_choices_of_tools(llama3: Server, choice: Any, names: list[str], forced: bool) -> None:
    tools = [{"type": "function", "name": name, "parameters": CITY} for name in ("f", "g")]
    command = show(llama3, tools=tools, tool_choice=choice)
    text = prompt(command)
    assert [name for name in ("f", "g") if f'"name": "{name}"' in text] == names
    assert (command["grammar"] is not None) == forced
    assert respond(llama3, "a", tools=tools, tool_choice="auto")["tool_choice"] == "auto"


# What cannot be


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": []}, "input", "invalid_value"),
        ({"input": 3}, "input", "invalid_type"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input", "invalid_value"),
        ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            {
                "input": [
                    {
                        "type": "function_call_output",
                        "call_id": "c",
                        "output": [{"type": "input_file"}],
                    }
                ]
            },
            "input[0].output[0].type",
            "invalid_value",
        ),
        ({"input": [{"type": "local_shell_call"}]}, "input[0].type", "unsupported_parameter"),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "3"}]},
            "input[0].arguments",
            "invalid_value",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
        ({"tools": [{"type": "custom", "name": "c"}]}, "tools[0].type", "unsupported_parameter"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type", "unsupported_parameter"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}},
            "tool_choice.name",
            "invalid_value",
        ),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "x"}],
                },
            },
            "tool_choice.tools[0].name",
            "invalid_value",
        ),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []},
            },
            "tool_choice.tools",
            "invalid_value",
        ),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name", "invalid_value"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"a": "b" * 513}}, "metadata[...]", "invalid_value"),
        ({"truncation": "trim"}, "truncation", "invalid_value"),
        ({"stop": [""]}, "stop[0]", "invalid_value"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a"}}},
            "text.format.schema",
            "missing_required_parameter",
        ),
        (
            {"previous_response_id": "resp_0"},
            "previous_response_id",
            "previous_response_not_found",
        ),
        ({"input": "refuse text.format No."}, "text.format", "invalid_value"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(
    llama3: Server, fields: dict[str, Any], param: str, code: str
) -> None:
    assert error_of(llama3, **{"input": "x"} | fields)[:2] == (param, code)


def test_stream_options_need_a_stream(server: Server) -> None:
    options = {"include_obfuscation": False}
    assert post(server, "a", stream_options=options).error()["param"] == "stream_options"
    assert stream(server, "a", stream_options=options)


def test_no_input(server: Server) -> None:
    answer = post(server, model="fake-model")
    assert (answer.status, answer.error()["param"]) == (400, "input")


def test_places_of_messages_are_those_of_the_input(server: Server) -> None:
    first = respond(server, "a")["id"]
    items = [{"role": "assistant", "content": "b"}]
    for number, place in [
        (0, "instructions"),
        (1, "previous_response_id"),
        (2, "previous_response_id"),
        (3, "input[0]"),
        (4, "input[1]"),
    ]:
        asked = {"role": "user", "content": f"refuse messages[{number}].content No."}
        fields = {"instructions": "c", "previous_response_id": first}
        assert error_of(server, [*items, asked], **fields)[0] == place


def test_the_route_without_v1(server: Server) -> None:
    assert checked(server.ask("POST", "/responses", {"input": "a b"}))["status"] == "completed"


def test_failures_before_an_answer_are_statuses(server: Server) -> None:
    for stream_it in (False, True):
        assert post(server, "fail-early engine_error", stream=stream_it).status == 500
        assert post(server, "fail-early timeout", stream=stream_it).status == 504


def test_a_failure_in_a_stream_is_its_last_event(server: Server) -> None:
    events = stream(server, "fail engine_error")
    last = events[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"]["code"] == "server_error"
    assert "as it was told" in last["response"]["error"]["message"]
    assert post(server, "fail engine_error").status == 500
