"""The official `anthropic` package against a fake engine, whose answers are known, and against real
models."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import (
    Anthropic,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
    RequestTooLargeError,
)
from anthropic.types import message_count_tokens_params, message_create_params
from pydantic import BaseModel

from sheily_server.api.anthropic import protocol as wire
from sheily_server.api.anthropic.neutral import EFFECTLESS, NEUTRAL
from tests.server.conftest import make
from tests.support.real_server import RealServer
from tests.support.serving import Server, read_until

WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Madrid", "Paris"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CALL = '{"name": "weather", "parameters": {"city": "Paris"}}'


def asking(url: str, key: str = "none", **more: Any) -> Anthropic:
    return Anthropic(base_url=url, api_key=key, max_retries=0, **more)


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("fake")
    server = make(folder, "--dialect", "llama3", context_size=4096, api_key=("secret",))
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def client(fake: Server) -> Iterator[Anthropic]:
    with asking(fake.url, "secret") as made:
        yield made


@pytest.fixture(scope="module")
def model(words: RealServer) -> Iterator[Anthropic]:
    with asking(words.url) as made:
        yield made


# --- answers that are known -----------------------------------------------------------------------


def test_a_message(client: Anthropic) -> None:
    made = client.messages.create(model="fake-model", max_tokens=9, messages=user("uno dós tres"))
    assert (made.type, made.role, made.model) == ("message", "assistant", "fake-model")
    assert [block.type for block in made.content] == ["text"]
    assert made.content[0].text == "uno dós tres"  # type: ignore[union-attr]
    assert (made.stop_reason, made.stop_sequence) == ("end_turn", None)
    assert made.usage.output_tokens == 3
    assert made.usage.cache_read_input_tokens == 1
    assert made._request_id is not None
    assert made._request_id.startswith("req_")


def test_a_stream(client: Anthropic) -> None:
    with client.messages.stream(
        model="fake-model",
        max_tokens=9,
        messages=user("stopped 0 uno dós tres"),
        stop_sequences=["END"],
    ) as stream:
        texts = list(stream.text_stream)
        made = stream.get_final_message()
    assert texts == ["uno", " dós", " tres"]
    assert made.content[0].text == "uno dós tres"  # type: ignore[union-attr]
    assert (made.stop_reason, made.stop_sequence) == ("stop_sequence", "END")
    whole = client.messages.create(
        model="fake-model",
        max_tokens=9,
        messages=user("stopped 0 uno dós tres"),
        stop_sequences=["END"],
    )
    assert made.usage.to_dict() == whole.usage.to_dict()


def test_the_events_of_a_stream(client: Anthropic) -> None:
    stream = client.messages.create(
        model="fake-model", max_tokens=9, messages=user("uno"), stream=True
    )
    assert [event.type for event in stream] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_loop_of_a_tool(client: Anthropic, streamed: bool) -> None:
    talk: list[Any] = user(CALL)
    for i in range(3):
        options: dict[str, Any] = {
            "model": "fake-model",
            "max_tokens": 60,
            "tools": [WEATHER],
            "messages": talk,
        }
        if streamed:
            with client.messages.stream(**options) as stream:
                made: Any = stream.get_final_message()
        else:
            made = client.messages.create(**options)
        assert made.stop_reason == "tool_use"
        (call,) = made.content
        assert (call.type, call.name, call.input) == ("tool_use", "weather", {"city": "Paris"})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
        again = {"type": "text", "text": CALL if i < 2 else "It is sunny."}
        talk += [
            {"role": "assistant", "content": made.content},
            {"role": "user", "content": [result, again]},
        ]
    last = client.messages.create(
        model="fake-model",
        max_tokens=60,
        tools=[WEATHER],
        messages=talk,
    )
    assert last.content[0].text == "It is sunny."  # type: ignore[union-attr]
    assert last.stop_reason == "end_turn"
    assert "sheily" in (last.model_extra or {})
    assert "ignored" not in last.model_extra["sheily"]  # type: ignore[index]


def test_the_input_of_a_call_streams(client: Anthropic) -> None:
    with client.messages.stream(
        model="fake-model",
        max_tokens=60,
        tools=[WEATHER],
        messages=user(CALL),
    ) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
    assert len(pieces) > 1
    assert json.loads("".join(pieces)) == {"city": "Paris"}


def test_tokens_are_counted(client: Anthropic) -> None:
    few = client.messages.count_tokens(model="fake-model", messages=user("hi"))
    more = client.messages.count_tokens(
        model="fake-model",
        messages=user("hi"),
        system="Be brief.",
        tools=[WEATHER],
    )
    assert 0 < few.input_tokens < more.input_tokens


def test_the_beta_routes_are_the_same(client: Anthropic) -> None:
    made = client.beta.messages.create(
        model="fake-model",
        max_tokens=9,
        messages=user("uno"),
        betas=["context-1m-2025-08-07"],
        thinking={"type": "enabled", "budget_tokens": 1024},
    )
    assert made.content[0].text == "uno"  # type: ignore[union-attr]
    assert (made.model_extra or {})["sheily"] == {"ignored": ["thinking"]}


def error_of(client: Anthropic, order: str = "hi", **fields: Any) -> APIStatusError:
    options = {"model": "fake-model", "max_tokens": 9, "messages": user(order), **fields}
    with pytest.raises(APIStatusError) as caught:
        client.messages.create(**options)
    return caught.value


def test_errors_are_the_package_s_own(client: Anthropic, fake: Server) -> None:
    for kind, type, error in (
        (BadRequestError, "invalid_request_error", error_of(client, max_tokens=0)),
        (BadRequestError, "invalid_request_error", error_of(client, "too-long 9000 1")),
        (NotFoundError, "not_found_error", error_of(client, model="claude-x")),
        (RequestTooLargeError, "request_too_large", error_of(client, "x" * 5_000_000)),
        (InternalServerError, "api_error", error_of(client, "fail engine_error")),
        (APIStatusError, "timeout_error", error_of(client, "fail-early timeout")),
    ):
        assert isinstance(error, kind)
        assert error.body["error"]["type"] == type  # type: ignore[index]
        assert error.request_id == error.body["request_id"]  # type: ignore[index]
    with asking(fake.url, "wrong") as stranger:
        assert isinstance(error_of(stranger), AuthenticationError)
    with Anthropic(base_url=fake.url, auth_token="secret", max_retries=0) as bearer:
        made = bearer.messages.create(model="fake-model", max_tokens=9, messages=user("uno"))
        assert made.stop_reason == "end_turn"


def test_an_error_in_the_middle_of_a_stream(client: Anthropic) -> None:
    options: dict[str, Any] = {"model": "fake-model", "max_tokens": 9}
    with (
        client.messages.stream(messages=user("fail engine_error"), **options) as stream,
        pytest.raises(APIStatusError, match="engine_error"),
    ):
        stream.get_final_message()


def test_a_full_queue(tmp_path: Path) -> None:
    server = make(tmp_path, parallel=1, queue=0)
    try:
        server.wait_for("ready")
        with server.opened("hang-late", stream=True) as connection, asking(server.url) as client:
            read_until(connection, b"once")
            assert isinstance(error_of(client), RateLimitError)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("official", "shape"),
    [
        (message_create_params.MessageCreateParamsBase, wire.MessagesRequest),
        (message_count_tokens_params.MessageCountTokensParams, wire.CountTokensRequest),
    ],
)
def test_each_field_of_the_package_is_known(official: Any, shape: Any) -> None:
    known = {*shape.__struct_fields__, *NEUTRAL, *EFFECTLESS}
    headers = {"user_profile_id", "workspace_id"}
    assert set(typing.get_type_hints(official)) - headers <= known


# --- real models ----------------------------------------------------------------------------------


def test_words_of_a_real_model(model: Anthropic) -> None:
    options: dict[str, Any] = {
        "model": "SmolLM2-135M-Instruct.Q4_1",
        "max_tokens": 12,
        "messages": user("What is the capital of France?"),
        "extra_body": {"temperature": 0},
    }
    made = model.messages.create(**options)
    (block,) = made.content
    assert block.type == "text"
    # Which words these are depends on the CPU's rounding: two first tokens are close.
    word = block.text.split()[1]
    n_prompt = model.messages.count_tokens(
        model=options["model"], messages=options["messages"]
    ).input_tokens
    assert made.usage.input_tokens + (made.usage.cache_read_input_tokens or 0) == n_prompt
    with model.messages.stream(**options) as stream:
        assert "".join(stream.text_stream) == block.text
    stopped = model.messages.create(**options, stop_sequences=[word, "zzz"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word)
    assert stopped.content[0].text == block.text.split(word)[0]


def test_a_real_model_goes_on_with_a_text(model: Anthropic) -> None:
    begun: Any = {"role": "assistant", "content": "The capital of France is"}
    made = model.messages.create(
        model="SmolLM2-135M-Instruct.Q4_1",
        max_tokens=3,
        messages=[*user("What is the capital of France?"), begun],
        extra_body={"temperature": 0},
    )
    assert made.content[0].text.startswith(" Paris")  # type: ignore[union-attr]


class City(BaseModel):
    city: str


def test_a_structured_answer(model: Anthropic) -> None:
    made = model.messages.parse(
        model="SmolLM2-135M-Instruct.Q4_1",
        max_tokens=60,
        messages=user("Which city is the capital of France? Answer with its name."),
        output_format=City,
        extra_body={"temperature": 0},
    )
    assert isinstance(made.parsed_output, City)
    assert made.stop_reason == "end_turn"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_forced_call_follows_its_schema(tools: RealServer, choice: Any) -> None:
    """Of a model whose weights are random."""
    with asking(tools.url) as client:
        made = client.messages.create(
            model="llama3-tiny",
            max_tokens=60,
            messages=user("How is the weather in Paris?"),
            tools=[WEATHER],
            tool_choice=choice | {"disable_parallel_tool_use": True},
        )
    (call,) = made.content
    assert call.type == "tool_use"
    assert made.stop_reason == "tool_use"
    assert call.input in ({"city": "Madrid"}, {"city": "Paris"})
