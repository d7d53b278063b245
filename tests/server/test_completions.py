"""What the chat routes answer: the OpenAI shapes, streamed and not, and `/chat`'s own."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

import msgspec
import pytest

from sheily_server.protocol.commands import Bias
from sheily_server.web import app
from tests.server.conftest import Serve
from tests.support.serving import Server, completion, parse_events, read_until
from tests.support.waiting import WAIT

pytestmark = pytest.mark.http

TALK = [
    message
    for i in range(10)
    for message in (
        {"role": "user", "content": f"u{i}"},
        {"role": "assistant", "content": f"a{i}"},
    )
]


def test_an_answer(server: Server) -> None:
    before = int(time.time())
    answer = server.complete("one two three")
    assert answer.status == 200
    body = answer.json()
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{24}", body.pop("id"))
    assert before <= body.pop("created") <= time.time()
    n_prompt = body["usage"]["prompt_tokens"]
    assert n_prompt > 0
    assert body == {
        "object": "chat.completion",
        "model": "fake-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "one two three", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "system_fingerprint": "fp_fake",
        "timings": {
            "predicted_n": 3,
            "queued_ms": 0.0,
            "prompt_ms": 1.0,
            "predicted_ms": 10.0,
            "prompt_per_second": (n_prompt - 1) * 1000.0,
            "predicted_per_second": 200.0,
            "draft_n": 0,
            "draft_n_accepted": 0,
            "cache_n": 1,
            "cache_disk_n": 0,
            "preempted": 0,
        },
        "usage": {
            "prompt_tokens": n_prompt,
            "completion_tokens": 3,
            "total_tokens": n_prompt + 3,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
                "text_tokens": 3,
                "reasoning_tokens": 0,
                "audio_tokens": 0,
            },
        },
        "sheily": {},
    }


def test_an_answer_cut_by_max_tokens(server: Server) -> None:
    body = server.complete("one two three", max_tokens=2).json()
    assert body["choices"][0]["message"]["content"] == "one two"
    assert body["choices"][0]["finish_reason"] == "length"
    body = server.complete("one two three", max_tokens=9, max_completion_tokens=1).json()
    assert body["choices"][0]["message"]["content"] == "one"


def test_an_empty_answer(server: Server) -> None:
    body = server.complete("").json()
    assert body["choices"][0]["message"]["content"] == ""
    chunks = server.complete("", stream=True).events()
    assert [len(c["choices"]) for c in chunks[:-1]] == [1, 1]
    assert server.simple(message="").json()["response"] == ""


def test_any_text_comes_back(server: Server) -> None:
    text = "caf\u00e9 \U0001f600 \u2028 \u0000 <b> \\ \" ' </script> \u202e"
    assert server.complete(text).json()["choices"][0]["message"]["content"] == text
    assert streamed_text(server.complete(text, stream=True).events()) == text


def streamed_text(events: list[Any]) -> str:
    assert events[-1] == "[DONE]"
    deltas = [choice["delta"] for event in events[:-1] for choice in event["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


def test_a_stream(server: Server) -> None:
    answer = server.complete("one two", stream=True)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    *chunks, done = answer.events()
    assert done == "[DONE]"
    assert len({chunk.pop("id") for chunk in chunks}) == 1
    assert len({chunk.pop("created") for chunk in chunks}) == 1
    assert chunks[-1].pop("timings")["predicted_per_second"] == 100.0
    same = {
        "model": "fake-model",
        "object": "chat.completion.chunk",
        "system_fingerprint": "fp_fake",
    }

    def expected(delta: dict[str, str], reason: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**same, "choices": [choice], **more}

    assert chunks == [
        expected({"role": "assistant", "content": ""}, sheily={}),
        expected({"content": "one"}),
        expected({"content": " two"}),
        expected({}, "stop", sheily={}),
    ]


def test_a_stream_with_usage(server: Server) -> None:
    answer = server.complete("one two", stream=True, stream_options={"include_usage": True})
    *chunks, last, done = answer.events()
    assert done == "[DONE]"
    assert [chunk["usage"] for chunk in chunks] == [None] * 4
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 2
    assert last["id"] == chunks[0]["id"]
    assert last["object"] == "chat.completion.chunk"


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
def test_a_stream_without_usage(server: Server, options: dict[str, Any] | None) -> None:
    *chunks, _done = server.complete("one", stream=True, stream_options=options).events()
    assert all("usage" not in chunk for chunk in chunks)
    assert all(chunk["choices"] for chunk in chunks)


def test_a_stream_cut_by_max_tokens(server: Server) -> None:
    *chunks, _done = server.complete("one two three", stream=True, max_tokens=2).events()
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [
        None,
        None,
        None,
        "length",
    ]


def test_chunks_come_as_tokens_do(server: Server) -> None:
    """Each is sent on its own, at once: what a stream is for."""
    with server.opened("hang-late", stream=True) as connection:
        data = read_until(connection, b'"content":"once"')
        assert data.startswith(b"HTTP/1.1 200")
        assert b'"role":"assistant"' in data


def test_the_status_of_a_stream_comes_before_its_first_token(server: Server) -> None:
    with server.opened("hang", stream=True) as connection:
        assert b"200 OK" in read_until(connection, b'"role":"assistant"')


def test_comments_keep_a_waiting_stream_alive(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "KEEP_ALIVE_S", 0.01)
    with server.opened("hang", stream=True) as connection:
        read_until(connection, b"assistant")
        data = read_until(connection, b": keep-alive\n\n")
        assert b"data:" not in data.partition(b": keep-alive")[2]


def test_comments_do_not_disturb_readers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "KEEP_ALIVE_S", 0.0)
    answer = server.complete("slow 2 0.2", stream=True)
    assert b": keep-alive" in answer.body
    assert streamed_text(answer.events()) == "w0 w1 "


def test_http_1_0_gets_a_stream_that_ends_with_the_connection(server: Server) -> None:
    body = json.dumps(completion("one two", stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: {len(body)}\r\n"
    head += "Host: localhost\r\nContent-Type: application/json\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"chunked" not in answer
    assert streamed_text(parse_events(answer.partition(b"\r\n\r\n")[2])) == "one two"


def test_the_simple_route(server: Server) -> None:
    body = server.simple(message="one two").json()
    assert set(body) == {
        "response",
        "model",
        "finish_reason",
        "usage",
        "dropped_messages",
        "timed_out",
        "sheily",
    }
    assert body["response"] == "one two"
    assert (body["model"], body["finish_reason"]) == ("fake-model", "stop")
    assert body["usage"]["completion_tokens"] == 2
    assert (body["dropped_messages"], body["timed_out"]) == (0, False)


def shown_prompt(response: str) -> str:
    """The prompt in an answer to `show`."""
    return "".join(text for text, _special in json.loads(response)["segments"])


def test_the_simple_route_with_history_and_system(server: Server) -> None:
    history = [{"role": "user", "content": "u0"}, {"role": "assistant", "content": "a0"}]
    body = server.simple(message="show", history=history, system="Be brief.").json()
    assert shown_prompt(body["response"]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nu0<|im_end|>\n"
        "<|im_start|>assistant\na0<|im_end|>\n<|im_start|>user\nshow<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_simple_route_with_messages_and_options(server: Server) -> None:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "show"}]
    body = server.simple(
        messages=messages,
        max_tokens=7,
        temperature=0.5,
        top_p=0.25,
        stop=["END"],
        seed=-5,
        presence_penalty=1,
        frequency_penalty=-1,
        user="ann",
        top_k=40,
        min_p=0.05,
        repeat_penalty=1.1,
        ignore_eos=True,
        logit_bias={"5": -100, "007": 1.5},
    ).json()
    submit = json.loads(body["response"])
    assert shown_prompt(body["response"]).startswith("<|im_start|>system\nS<|im_end|>")
    bias = msgspec.convert(submit["sampling"].pop("logit_bias"), Bias)
    assert bias == Bias.of({5: -100.0, 7: 1.5})
    assert (submit["max_tokens"], submit["stop"]) == (7, ["END"])
    assert submit["sampling"] == {
        "temperature": 0.5,
        "top_p": 0.25,
        "frequency_penalty": -1.0,
        "presence_penalty": 1.0,
        "seed": -5,
        "top_k": 40,
        "min_p": 0.05,
        "repeat_penalty": 1.1,
        "ignore_eos": True,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "message"),
        ({"message": "x", "messages": TALK}, "message"),
        ({"messages": TALK, "history": TALK}, "history"),
        ({"messages": TALK, "system": "S"}, "system"),
        ({"message": "x", "stream": True}, "stream"),
        (
            {"message": "x", "system": "S", "history": [*TALK, {"role": "assistant"}]},
            "history[20].content",
        ),
        ({"message": "too-long 300 1"}, "message"),
        ({"messages": [{"role": "user", "content": "too-long 300 1"}]}, "messages"),
    ],
)
def test_what_the_simple_route_refuses(server: Server, fields: dict[str, Any], param: str) -> None:
    answer = server.simple(**fields)
    assert (answer.status, answer.error()["param"]) == (400, param)


def test_dropped_messages_are_counted_everywhere(serve: Serve) -> None:
    server = serve(max_history=4)
    server.wait_for("ready")
    talk = [{"role": "system", "content": "S"}, *TALK[:8], {"role": "user", "content": "show"}]
    body = server.ask("POST", "/v1/chat/completions", {"messages": talk}).json()
    assert body["sheily"] == {"dropped_messages": 6}
    prompt = shown_prompt(body["choices"][0]["message"]["content"])
    assert [text in prompt for text in ("\nS<", "\na2<", "\nu3<", "\na3<")] == [
        True,
        False,
        True,
        True,
    ]
    chunks = server.ask("POST", "/v1/chat/completions", {"messages": talk, "stream": True}).events()
    assert chunks[0]["sheily"] == {"dropped_messages": 6}
    assert server.simple(messages=talk).json()["dropped_messages"] == 6
    answer = server.simple(message="show", system="S", history=TALK[:8]).json()
    assert answer["dropped_messages"] == 6
    assert server.simple(message="show", history=TALK[:2]).json()["dropped_messages"] == 0


def test_scripts_have_a_limit_of_messages_and_openais_routes_have_none(server: Server) -> None:
    """An agent's only question and examples that come as messages are never cut by default."""
    talk = TALK[:14]
    asked = {"role": "user", "content": "show"}
    body = server.ask("POST", "/v1/chat/completions", {"messages": [*talk, asked]}).json()
    assert body["sheily"] == {}
    assert server.simple(message="show", history=talk).json()["dropped_messages"] == 6


def test_the_turn_that_is_answered_is_never_cut(serve: Serve) -> None:
    server = serve("--dialect", "llama3", max_history=4)
    server.wait_for("ready")
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    step = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
    ]
    messages = [*TALK[:2], {"role": "user", "content": "show"}, *step * 30]
    body = server.ask("POST", "/v1/chat/completions", {"messages": messages}).json()
    assert body["sheily"] == {"dropped_messages": 2}


def test_a_prompt_that_is_too_long(server: Server) -> None:
    for stream in (False, True):
        answer = server.complete("too-long 270 1", stream=stream)
        assert answer.status == 400
        error = answer.error()
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        for number in ("256", "270"):
            assert number in error["message"]
        assert "send truncation: trim" in error["message"]
        trimmed = server.complete("too-long 270 1", stream=stream, truncation="trim").error()
        assert trimmed["code"] == "context_length_exceeded"
        assert "were left out already: shorten that one" in trimmed["message"]
        assert "send truncation" not in trimmed["message"]  # it was sent


def test_an_answer_cut_short_by_the_deadline(server: Server) -> None:
    body = server.complete("timed-out").json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["sheily"] == {"timed_out": True}
    assert server.simple(message="timed-out").json()["timed_out"] is True
    *_, last, _done = server.complete("timed-out", stream=True).events()
    assert last["sheily"] == {"timed_out": True}


def test_requests_run_side_by_side(serve: Serve) -> None:
    server = serve(parallel=2, queue=2)
    server.wait_for("ready")
    with server.opened("hang"), server.opened("hang", stream=True):
        server.wait_for_engine("submit", 2)
        assert server.complete("meanwhile").status == 200
        assert server.health()["active_requests"] == 2


def test_an_answer_goes_on_with_the_last_message(server: Server) -> None:
    messages = [
        {"role": "user", "content": "show"},
        {"role": "assistant", "content": "I begin "},
    ]
    prompts = []
    for fields in ({}, {"add_generation_prompt": True}):
        body = {"messages": messages, **fields}
        answer = server.ask("POST", "/v1/chat/completions", body)
        prompts.append(shown_prompt(answer.json()["choices"][0]["message"]["content"]))
    assert prompts[0].endswith("assistant\nI begin ")
    assert prompts[1].endswith("assistant\nI begin <|im_end|>\n<|im_start|>assistant\n")
