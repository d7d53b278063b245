"""POST /v1/completions over a fake engine: prompts, choices, echo, streams, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.conftest import Serve
from tests.support.serving import Answer, Server

pytestmark = pytest.mark.http

PATH = "/v1/completions"


def complete(server: Server, prompt: Any, **fields: Any) -> Answer:
    return server.ask("POST", PATH, {"prompt": prompt, **fields})


def choices(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    body = answer.json()
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    found: list[dict[str, Any]] = body["choices"]
    return found


def shown(answer: Answer) -> dict[str, Any]:
    """The command that the engine got."""
    [choice] = choices(answer)
    command: dict[str, Any] = json.loads(choice["text"])
    return command


def test_an_answer(server: Server) -> None:
    answer = complete(server, "uno dós tres", max_tokens=2)
    assert choices(answer) == [
        {"text": "uno dós", "index": 0, "logprobs": None, "finish_reason": "length"}
    ]
    body = answer.json()
    assert body["model"] == "fake-model"
    assert body["usage"]["prompt_tokens"] == 3
    assert body["usage"]["completion_tokens"] == 2
    assert body["timings"]["predicted_ms"] == 10.0
    assert body["sheily"] == {}


@pytest.mark.parametrize("path", [PATH, "/completions"])
def test_both_paths(server: Server, path: str) -> None:
    assert server.ask("POST", path, {"prompt": "a"}).status == 200


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("show", [("show", [], "prompt")]),
        (["show"], [("show", [], "prompt[0]")]),
        (list(b"show"), [("", list(b"show"), "prompt")]),
        ([list(b"show")], [("", list(b"show"), "prompt[0]")]),
    ],
)
def test_forms_of_a_prompt(
    server: Server, prompt: Any, prompts: list[tuple[str, list[int], str]]
) -> None:
    command = shown(complete(server, prompt))
    assert [(one["text"], one["ids"], one["place"]) for one in command["prompts"]] == prompts
    assert command["segments"] == []


def test_what_the_engine_is_asked_for(server: Server) -> None:
    command = shown(complete(server, "show", parse_special=True, top_k=3, stop="x", seed=9))
    assert command["prompts"][0]["markers"]
    assert command["max_tokens"] == 16  # OpenAI's default
    assert command["top_logprobs"] is None
    assert not command["echo"]
    assert command["stop"] == ["x"]
    assert (command["sampling"]["top_k"], command["sampling"]["seed"]) == (3, 9)
    command = shown(complete(server, "show", echo=True, logprobs=4))
    assert (command["echo"], command["scores"], command["top_logprobs"]) == (True, True, 4)
    assert not command["prompts"][0]["markers"]
    assert not shown(complete(server, "show", echo=True))["scores"]
    assert shown(complete(server, "show", max_tokens=-1))["max_tokens"] == 100  # the server's


def test_indices_are_those_of_openai(server: Server) -> None:
    found = choices(complete(server, ["a b", "c"], n=2))
    assert [(one["index"], one["text"]) for one in found] == [
        (0, "a b"),
        (1, "a b"),
        (2, "c"),
        (3, "c"),
    ]


def test_the_length_of_the_longest_prompt_clamps(serve: Serve) -> None:
    server = serve(context_size=10, max_tokens=100)
    server.wait_for("ready")
    body = complete(server, ["a b c d", "e"], max_tokens=20).json()
    assert body["sheily"] == {"clamped": {"max_tokens": 6}}
    assert body["usage"]["prompt_tokens"] == 5


def test_nothing_is_generated_with_0_tokens(server: Server) -> None:
    answer = complete(server, "one two", max_tokens=0, echo=True, logprobs=1)
    [choice] = choices(answer)
    assert choice == {
        "text": "one two",
        "index": 0,
        "logprobs": {
            "tokens": ["one", " two"],
            "token_logprobs": [None, -0.25],
            "top_logprobs": [None, {"alt": -0.125, " two": -0.25}],
            "text_offset": [0, 3],
        },
        "finish_reason": "length",
    }
    assert answer.json()["usage"]["completion_tokens"] == 0


def test_echo_and_log_probabilities_go_on_into_the_answer(server: Server) -> None:
    [choice] = choices(complete(server, "ñu b", max_tokens=1, echo=True, logprobs=0))
    assert choice["text"] == "ñu bñu"
    assert choice["logprobs"] == {
        "tokens": ["ñu", " b", "ñu"],
        "token_logprobs": [None, -0.25, -0.5],
        "top_logprobs": [None, {"alt": -0.125, " b": -0.25}, {"ñu": -0.5}],
        "text_offset": [0, 2, 4],
    }


def test_echo_without_log_probabilities(server: Server) -> None:
    [choice] = choices(complete(server, list("ñu b".encode()), max_tokens=1, echo=True))
    assert (choice["text"], choice["logprobs"]) == ("ñu bñu", None)


def test_a_stream(server: Server) -> None:
    *chunks, done = complete(server, ["a b", "c"], echo=True, logprobs=0, stream=True).events()
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    texts, ends = {0: "", 1: ""}, []
    for chunk in chunks:
        [choice] = chunk["choices"]
        texts[choice["index"]] += choice["text"]
        if choice["finish_reason"]:
            ends.append((choice["index"], choice["finish_reason"]))
    assert texts == {0: "a ba b", 1: "cc"}
    assert ends == [(0, "stop"), (1, "stop")]
    offsets = [
        offset
        for chunk in chunks
        if chunk["choices"][0]["index"] == 0 and chunk["choices"][0]["logprobs"]
        for offset in chunk["choices"][0]["logprobs"]["text_offset"]
    ]
    assert offsets == [0, 1, 3, 4]
    assert "sheily" in chunks[0]
    assert {"timings", "sheily"} <= set(chunks[-1])


def test_a_stream_with_usage(server: Server) -> None:
    fields = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = complete(server, "a b", **fields).events()
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 2


def test_an_error_in_a_stream(server: Server) -> None:
    assert complete(server, "fail engine_error", stream=True).events()[-1]["error"]


def test_a_prompt_that_is_too_long_is_named(server: Server) -> None:
    error = complete(server, "too-long 300 1").error()
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "prompt", "missing_required_parameter"),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": [[]]}, "prompt[0]", "invalid_value"),
        ({"prompt": ["a", 1]}, "prompt[1]", "invalid_type"),
        ({"prompt": [1, "a"]}, "prompt[0]", "invalid_type"),
        ({"prompt": [[1], "a"]}, "prompt[1]", "invalid_type"),
        ({"prompt": {}}, "prompt", "invalid_type"),
        ({"prompt": [-1]}, "prompt", "invalid_value"),
        ({"prompt": [2**31]}, "prompt", "invalid_value"),
        ({"prompt": [True]}, "prompt[0]", "invalid_type"),
        ({"prompt": ["a"] * 129}, "prompt", "invalid_value"),
        ({"prompt": [7] * 131_073}, "prompt", "invalid_value"),
        ({"prompt": [[7] * 70_000] * 2}, "prompt", "invalid_value"),
        ({"prompt": "a", "suffix": "b"}, "suffix", "unsupported_parameter"),
        ({"prompt": "a", "logprobs": 6}, "logprobs", "invalid_value"),
        ({"prompt": "a", "logprobs": True}, "logprobs", "invalid_type"),
        ({"prompt": "a", "n": 17}, "n", "invalid_value"),
        ({"prompt": "a", "best_of": 17}, "best_of", "invalid_value"),
        ({"prompt": "a", "n": 2, "best_of": 1}, "best_of", "invalid_value"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of", "invalid_value"),
        ({"prompt": "a", "max_tokens": -2}, "max_tokens", "invalid_value"),
        ({"prompt": "a", "stop": [""]}, "stop[0]", "invalid_value"),
        ({"prompt": "a", "truncation": "trim"}, "truncation", "invalid_value"),
        ({"prompt": "a", "stream_options": {}}, "stream_options", "invalid_value"),
        ({"prompt": "a", "model": "other"}, "model", "model_not_found"),
    ],
)
def test_what_is_refused(server: Server, fields: dict[str, Any], param: str, code: str) -> None:
    answer = server.ask("POST", PATH, fields)
    error = answer.error()
    assert (error["param"], error["code"]) == (param, code), error
    assert answer.status == (404 if param == "model" else 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"suffix": None},
        {"suffix": ""},
        {"best_of": 2, "n": 2, "stream": True},
        {"user": "me"},
        {"stream_options": {"include_usage": True}, "stream": True},
    ],
)
def test_what_is_taken(server: Server, fields: dict[str, Any]) -> None:
    assert complete(server, "a", **fields).status == 200


def test_a_field_without_effect_is_named(server: Server) -> None:
    assert complete(server, "a", colour="red").json()["sheily"] == {"ignored": ["colour"]}


def test_requests_are_counted_by_their_route(server: Server) -> None:
    complete(server, "a")
    metrics = server.get("/metrics").body.decode()
    assert 'route="/v1/completions"' in metrics
