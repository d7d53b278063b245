"""The official `openai` package and this project's LLMClient against the whole server side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from sheily_server import client as own
from sheily_server.client import LLMClient
from tests.server.conftest import Serve
from tests.support.serving import Server

pytestmark = pytest.mark.http


@pytest.fixture
def official(server: Server) -> Iterator[openai.OpenAI]:
    with connect(server) as client:
        yield client


def connect(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_models(official: openai.OpenAI) -> None:
    assert [model.id for model in official.models.list()] == ["fake-model"]


def test_an_answer(official: openai.OpenAI) -> None:
    answer = official.chat.completions.create(
        model="fake-model",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "one two"}]},
        ],
        temperature=0.5,
        top_p=0.9,
        seed=1,
        stop=["END"],
        presence_penalty=0.1,
        frequency_penalty=0.1,
        max_completion_tokens=10,
        user="ann",
        n=1,
    )
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "one two"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1


def test_an_answer_goes_back_as_history(official: openai.OpenAI) -> None:
    first = official.chat.completions.create(
        model="fake-model", messages=[{"role": "user", "content": "one"}]
    )
    again = official.chat.completions.create(
        model="fake-model",
        messages=[
            {"role": "user", "content": "one"},
            first.choices[0].message,  # type: ignore[list-item]
            {"role": "user", "content": "two"},
        ],
    )
    assert again.choices[0].message.content == "two"


def test_a_stream(official: openai.OpenAI) -> None:
    chunks = list(
        official.chat.completions.create(
            model="fake-model",
            messages=[{"role": "user", "content": "one two"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "one two"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2


def test_the_streaming_helper(official: openai.OpenAI) -> None:
    with official.chat.completions.stream(
        model="fake-model", messages=[{"role": "user", "content": "one two"}]
    ) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert events.count("content.delta") >= 2
    assert final.choices[0].message.content == "one two"


def ask(client: openai.OpenAI, text: str, model: str = "fake-model") -> None:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])


def test_several_choices(official: openai.OpenAI) -> None:
    answer = official.chat.completions.create(
        model="fake-model", messages=[{"role": "user", "content": "each"}], n=3
    )
    assert [choice.message.content for choice in answer.choices] == [
        f"answer {i}" for i in range(3)
    ]
    assert answer.system_fingerprint == "fp_fake"
    with official.chat.completions.stream(
        model="fake-model", messages=[{"role": "user", "content": "each"}], n=3
    ) as stream:
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == [f"answer {i}" for i in range(3)]
    assert [choice.finish_reason for choice in final.choices] == ["stop"] * 3


def test_logprobs(official: openai.OpenAI) -> None:
    for stream in (False, True):
        answers: Any = official.chat.completions.create(
            model="fake-model",
            messages=[{"role": "user", "content": "one two"}],
            logprobs=True,
            top_logprobs=1,
            stream=stream,
        )
        found = [
            token
            for answer in (answers if stream else [answers])
            for choice in answer.choices
            if choice.logprobs is not None
            for token in choice.logprobs.content
        ]
        assert [token.token for token in found] == ["one", " two"]
        assert bytes(found[1].bytes) == b" two"
        assert found[0].top_logprobs[0].token == "alt0"


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CALL = '{"name": "weather", "parameters": {"city": "Lugo"}}'


def test_calls(serve: Serve) -> None:
    server = serve("--dialect", "llama3")
    server.wait_for("ready")
    with connect(server) as client:
        messages: list[Any] = [{"role": "user", "content": CALL}]
        answer = client.chat.completions.create(
            model="fake-model", messages=messages, tools=[WEATHER]
        )
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.type == "function"
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments) == {"city": "Lugo"}
        with client.chat.completions.stream(
            model="fake-model", messages=messages, tools=[WEATHER]
        ) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_completion().choices[0]
        assert "tool_calls.function.arguments.done" in kinds
        assert final.finish_reason == "tool_calls"
        assert final.message.tool_calls is not None
        parsed: Any = final.message.tool_calls[0].function.parsed_arguments
        assert parsed == {"city": "Lugo"}
        for said in (choice.message, final.message):
            more: list[Any] = [
                said,
                {"role": "tool", "tool_call_id": call.id, "content": "25 C"},
                {"role": "user", "content": "thanks"},
            ]
            again = client.chat.completions.create(
                model="fake-model", messages=messages + more, tools=[WEATHER]
            )
            assert again.choices[0].message.content == "thanks"


def test_a_prediction(official: openai.OpenAI) -> None:
    answer = official.chat.completions.create(
        model="fake-model",
        messages=[{"role": "user", "content": "one two"}],
        prediction={"type": "content", "content": [{"type": "text", "text": "one three"}]},
    )
    assert answer.choices[0].message.content == "one two"
    assert answer.usage is not None
    details = answer.usage.completion_tokens_details
    assert details is not None
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (1, 1)
    assert (details.text_tokens, details.reasoning_tokens, details.audio_tokens) == (2, 0, 0)
    assert details.model_extra == {}


def test_extensions(official: openai.OpenAI) -> None:
    answer = official.chat.completions.create(
        model="fake-model",
        messages=[{"role": "user", "content": "one two"}],
        logit_bias={"5": 1},
        extra_body={"top_k": 4, "min_p": 0.1, "repeat_penalty": 1.1, "truncation": "trim"},
    )
    assert answer.choices[0].message.content == "one two"
    assert answer.timings["predicted_ms"] == 10.0  # type: ignore[attr-defined]
    assert official.models.retrieve("fake-model").id == "fake-model"
    with pytest.raises(openai.NotFoundError):
        official.models.retrieve("gpt-4o")


def test_bad_requests(official: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        official.chat.completions.create(
            model="fake-model", messages=[{"role": "user", "content": "x"}], temperature=3
        )
    error = caught.value
    assert (error.status_code, error.param, error.code) == (400, "temperature", "invalid_value")
    assert error.type == "invalid_request_error"
    assert "temperature" in error.message
    assert error.request_id is not None
    assert error.request_id.startswith("req_")


def test_a_prompt_that_is_too_long(official: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(official, "too-long 300 1")
    assert caught.value.code == "context_length_exceeded"


def test_another_model(official: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(official, "x", model="gpt-4o")
    assert caught.value.code == "model_not_found"


def test_a_failure_in_a_stream(official: openai.OpenAI) -> None:
    stream = official.chat.completions.create(
        model="fake-model",
        messages=[{"role": "user", "content": "fail engine_error"}],
        stream=True,
    )
    with pytest.raises(openai.APIError, match="failed on this request"):
        list(stream)


def test_a_crash_and_what_is_after_it(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    with connect(server) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, "crash")
        assert (caught.value.status_code, caught.value.code) == (503, "engine_crashed")
        server.wait_for("ready")
        ask(client, "hi")


def test_a_full_queue(serve: Serve) -> None:
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    with connect(server) as client, server.opened("hang"):
        server.wait_for_engine("submit")
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client, "hi")
    assert caught.value.code == "queue_full"


def test_a_missing_model_is_not_asked_for_again(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The official client repeats every 500 twice, unless x-should-retry tells it not to."""
    caplog.set_level("INFO", "sheily_server.web.app")
    server = serve(missing=True)
    server.wait_for("failed")
    patient = connect(server).with_options(max_retries=2)
    with patient, pytest.raises(openai.InternalServerError, match="does not exist"):
        ask(patient, "hi")
    logged = [record for record in caplog.records if record.name == "sheily_server.web.app"]
    assert len(logged) == 1


def test_loading_is_waited_for(serve: Serve) -> None:
    """503 with Retry-After: the official client tries again by itself."""
    server = serve()
    with connect(server).with_options(max_retries=10) as client:
        ask(client, "hi")


def test_our_client(serve: Serve) -> None:
    server = serve(context_size=4096)
    server.wait_for("ready")
    with LLMClient(server.url) as client:
        assert client.health_check()["state"] == "ready"
        reply = client.chat([{"role": "user", "content": "one two"}], max_tokens=5)
        assert (reply.text, reply.finish_reason) == ("one two", "stop")
        assert reply.usage["completion_tokens"] == 2
        assert list(client.stream("one two")) == ["one", " two"]
        reply = client.chat("one two", prediction="one three")
        details = reply.usage["completion_tokens_details"]
        assert reply.text == "one two"
        assert (details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]) == (
            1,
            1,
        )
        done = client.complete("one two", max_tokens=5)
        assert (done.text, done.finish_reason) == ("one two", "stop")
        assert list(client.complete_stream(["one two", "three"])) == ["one", " two"]
        assert client.process_pipeline("What?", ["A text.", "Another."]).text == "What?"


def test_errors_of_our_client(server: Server) -> None:
    with LLMClient(server.url) as client:
        with pytest.raises(own.BadRequestError) as caught:
            client.chat("x", temperature=3)
        assert (caught.value.param, caught.value.code) == ("temperature", "invalid_value")
        with pytest.raises(own.LLMAPIError) as missing:
            client.chat("x", model="gpt-4o")
        assert missing.value.status == 404
        with pytest.raises(own.ServerError, match="failed on this request"):
            list(client.stream("fail engine_error"))


def test_our_client_without_a_model(serve: Serve) -> None:
    server = serve(missing=True)
    server.wait_for("failed")
    with LLMClient(server.url) as client:
        health = client.health_check()
        assert health["state"] == "failed"
        assert str(server.config.model_path) in health["reason"]
        with pytest.raises(own.ServerError) as caught:
            client.chat("hi")
        assert caught.value.status == 500


def test_closing_a_stream_of_our_client_frees_its_slot(serve: Serve) -> None:
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    with LLMClient(server.url) as client:
        stream = client.stream("slow 1000000 0.002")
        next(stream)
        stream.close()
        server.wait_for_engine("cancel 1")
        assert client.chat("next").text == "next"


def test_breaking_off_an_official_stream_frees_its_slot(serve: Serve) -> None:
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    with connect(server) as client:
        with client.chat.completions.create(
            model="fake-model",
            messages=[{"role": "user", "content": "slow 1000000 0.002"}],
            stream=True,
        ) as stream:
            next(iter(stream))
        server.wait_for_engine("cancel 1")
        ask(client, "next")
