"""What real clients send besides the fields of OpenAI's API, or write otherwise: it is answered,
and what had no effect is named in the answer and once in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.conftest import Serve, make
from tests.support.serving import Server, completion

pytestmark = pytest.mark.http

USER = {"role": "user", "content": "hi"}
COMPLETIONS = "/v1/chat/completions"
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}
CALL = '{"name": "weather", "parameters": {"city": "Vigo"}}'


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = make(tmp_path_factory.mktemp("llama3"), "--dialect", "llama3", context_size=1024)
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


def shown(server: Server, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """What the engine was asked for, and what was named as without effect."""
    answer = server.complete("show", **fields)
    assert answer.status == 200, answer.body
    body = answer.json()
    return json.loads(body["choices"][0]["message"]["content"]), body["sheily"].get("ignored", [])


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"store": True}, ["store"]),
        ({"service_tier": "flex"}, ["service_tier"]),
        ({"verbosity": "low"}, ["verbosity"]),
        ({"reasoning_effort": "high"}, ["reasoning_effort"]),
        ({"cache_prompt": True, "keep_alive": "5m"}, ["cache_prompt", "keep_alive"]),
        ({"prompt_cache_retention": "24h"}, ["prompt_cache_retention"]),
        ({"service_tier": "auto", "verbosity": None}, []),
    ],
)
def test_what_has_no_effect_changes_nothing(
    server: Server, fields: dict[str, Any], names: list[str]
) -> None:
    plain, _ = shown(server, seed=1)
    asked, ignored = shown(server, seed=1, **fields)
    assert ignored == names
    for one in (plain, asked):
        for name in ("id", "arrived", "deadline"):
            one.pop(name)
    assert asked == plain


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_p": 0, "temperature": 1.5}, {"temperature": 0}),
        ({"seed": -1}, {"seed": None}),
        ({"repetition_penalty": 1.3}, {"repeat_penalty": 1.3}),
    ],
)
def test_values_of_other_servers(
    server: Server, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    asked, ignored = shown(server, **fields)
    assert {name: asked["sampling"][name] for name in expected} == expected
    assert ignored == []


def test_the_length_as_other_servers_name_it(server: Server) -> None:
    answer = server.complete("one two three", n_predict=2).json()["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == ("one two", "length")


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (
            {"role": "assistant", "content": "x", "reasoning_content": "y"},
            ["messages[].reasoning_content"],
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
                    {"text": "y", "type": "text"},
                ],
            },
            ["messages[].content[].cache_control"],
        ),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, []),
        ({"role": "assistant", "content": "x", "refusal": "No."}, []),
    ],
)
def test_histories_of_clients(server: Server, message: dict[str, Any], names: list[str]) -> None:
    talk = [USER, message, {"role": "user", "content": "one two"}]
    answer = server.ask("POST", COMPLETIONS, {"messages": talk})
    assert answer.status == 200, answer.body
    assert answer.json()["choices"][0]["message"]["content"] == "one two"
    assert answer.json()["sheily"].get("ignored", []) == names
    simple = server.simple(messages=talk).json()
    assert (simple["response"], simple["sheily"].get("ignored", [])) == ("one two", names)


def test_an_image_is_refused_in_words(server: Server) -> None:
    part = {"image_url": {"url": "data:"}, "type": "image_url"}  # keys in order, as SDKs send them
    body = {"messages": [{"role": "user", "content": [part]}]}
    for path in (COMPLETIONS, "/chat", "/tokenize"):
        error = server.ask("POST", path, body).error()
        assert error["param"] == "messages[0].content[0].type"
        assert error["message"] == "This model reads text only, no content of the type 'image_url'."


def test_the_older_form_of_tools(llama3: Server) -> None:
    def call(**fields: Any) -> Any:
        return llama3.complete(CALL, **fields).json()["choices"][0]

    tools = [{"type": "function", "function": WEATHER}]
    older, newer = call(functions=[WEATHER]), call(tools=tools)
    assert older["finish_reason"] == newer["finish_reason"] == "tool_calls"
    (one,), (other,) = (each["message"]["tool_calls"] for each in (older, newer))
    assert one["function"] == other["function"]
    assert json.loads(one["function"]["arguments"]) == {"city": "Vigo"}
    assert call(functions=[WEATHER], function_call="none")["message"]["content"] == CALL
    error = llama3.complete("x", functions=[WEATHER], function_call={"name": "f"}).error()
    assert error["param"] == "function_call.name"


def test_the_older_form_of_calls_in_a_history(llama3: Server) -> None:
    arguments = '{"city": "Vigo"}'
    function = {"name": "weather", "arguments": arguments}
    older = [
        USER,
        {"role": "assistant", "content": None, "function_call": function},
        {"role": "function", "name": "weather", "content": "sunny"},
        {"role": "user", "content": "show"},
    ]
    newer = [
        USER,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
        {"role": "user", "content": "show"},
    ]
    prompts = []
    for talk in (older, newer):
        answer = llama3.ask("POST", COMPLETIONS, {"messages": talk})
        assert answer.status == 200, answer.body
        assert "ignored" not in answer.json()["sheily"]
        prompts.append(json.loads(answer.json()["choices"][0]["message"]["content"])["segments"])
    assert prompts[0] == prompts[1]


def test_a_stream_names_them_in_its_first_chunk_and_its_last(server: Server) -> None:
    events = server.complete("one two", stream=True, store=True, mood="good").events()
    said = [event["sheily"] for event in events[:-1] if "sheily" in event]
    assert said == [{"ignored": ["store", "mood"]}] * 2
    assert "sheily" in events[0]


def test_the_routes_for_tokens_name_them(server: Server) -> None:
    for path, body in (("/tokenize", {"text": "hi"}), ("/detokenize", {"tokens": [104]})):
        assert server.ask("POST", path, body).json()["sheily"] == {}
        said = server.ask("POST", path, body | {"mood": 1}).json()["sheily"]
        assert said == {"ignored": ["mood"]}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "sheily_server.chat.chat" and "no effect" in record.getMessage()
    ]


def test_the_log_names_each_once(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = serve()
    server.wait_for("ready")
    for _ in range(3):
        assert server.complete("hi", mood="good").status == 200
        assert server.complete("hi", mood="bad", store=True, stream=True).status == 200
        assert server.simple(message="hi", mood="good").status == 200
        assert server.ask("POST", "/tokenize", {"text": "hi", "add_special": True}).status == 200
        assert server.ask("POST", "/detokenize", {"tokens": [104], "x\n": 1}).status == 200
    assert told(caplog) == [
        f"requests have the field {name}, which has no effect here"
        for name in ("mood", "store", "add_special", "x\\n")
    ]
    assert "good" not in caplog.text


def test_the_log_does_not_grow_with_names(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = serve()
    server.wait_for("ready")
    for i in range(10):
        fields = {f"{i}-{j}": 1 for j in range(1000)}
        ignored = server.complete("hi", **fields).json()["sheily"]["ignored"]
        assert ignored == [f"{i}-{j}" for j in range(32)]
    assert len(told(caplog)) == 100


def test_strictly_read_nothing_is_accepted_without_effect(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = serve(strict="on")
    server.wait_for("ready")
    for fields, param, code in (
        ({"mood": "good"}, "mood", "unknown_parameter"),
        ({"messages": [USER, USER | {"x": 1}]}, "messages[1].x", "unknown_parameter"),
        ({"store": True}, "store", "unsupported_parameter"),
        ({"service_tier": "flex"}, "service_tier", "unsupported_parameter"),
    ):
        for stream in (False, True):
            answer = server.ask("POST", COMPLETIONS, completion("hi", stream=stream) | fields)
            assert answer.status == 400
            assert (answer.error()["param"], answer.error()["code"]) == (param, code)
    for good in ({"store": False}, {"user": "x", "metadata": {"a": "b"}}, {"top_k": -1}):
        assert server.complete("hi", **good).json()["sheily"] == {}
    assert told(caplog) == []
