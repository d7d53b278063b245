"""POST /v1/messages and /v1/messages/count_tokens over the fake engine: what the engine is asked
for, answers whole and streamed, errors in Anthropic's shape, keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sheily_server.web import app as app_module
from sheily_server.web.app import MAX_BODY_BYTES
from tests.server.conftest import Serve, make
from tests.support.serving import Answer, Server, completion, read_until

pytestmark = pytest.mark.http

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "The weather.", "input_schema": CITY}
CALL = '{"name": "weather", "parameters": {"city": "A Coruña"}}'
USER = {"role": "user", "content": "hi"}


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model takes tools."""
    server = make(tmp_path_factory.mktemp("llama3"), "--dialect", "llama3", context_size=4096)
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


def show(server: Server, **fields: Any) -> dict[str, Any]:
    """The Submit command that a request becomes; its last user message is `show`."""
    answer = server.message("show", **fields)
    assert answer.status == 200, answer.body
    command: dict[str, Any] = json.loads(answer.json()["content"][0]["text"])
    return command


def prompt_of(server: Server, **fields: Any) -> str:
    return "".join(segment[0] for segment in show(server, **fields)["segments"])


def problem(answer: Answer, status: int, type: str) -> dict[str, Any]:
    """Anthropic's error object."""
    assert answer.status == status, answer.body[:300]
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message", "param", "code"}
    assert body["error"]["type"] == type
    assert body["error"]["message"]
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    error: dict[str, Any] = body["error"]
    return error


# --- requests -------------------------------------------------------------------------------------


def test_a_message(server: Server) -> None:
    answer = server.message("uno dós tres")
    body = answer.json()
    assert body.pop("id").startswith("msg_")
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    usage = body.pop("usage")
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "fake-model",
        "content": [{"type": "text", "text": "uno dós tres"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "sheily": {},
    }
    assert usage["output_tokens"] == 3
    assert usage["cache_read_input_tokens"] == 1
    chat = server.complete("uno dós tres").json()["usage"]
    assert usage["input_tokens"] + 1 == chat["prompt_tokens"]


def test_what_the_engine_is_asked_for(server: Server) -> None:
    command = show(
        server,
        max_tokens=7,
        temperature=0.5,
        top_p=0.75,
        top_k=3,
        stop_sequences=["a", "b"],
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    )
    assert command["max_tokens"] == 7
    assert command["stop"] == ["a", "b"]
    sampling = command["sampling"]
    assert [sampling[name] for name in ("temperature", "top_p", "top_k")] == [0.5, 0.75, 3]
    assert command["grammar"] is None
    texts = [segment[0] for segment in command["segments"]]
    assert "system\nBe brief." in texts


def test_the_prompt_is_that_of_the_chat_route(server: Server) -> None:
    talk = [USER, {"role": "assistant", "content": "The Ebro"}, {"role": "user", "content": "show"}]
    said = server.ask("POST", MESSAGES, {"max_tokens": 9, "system": "s", "messages": talk}).json()
    system = {"role": "system", "content": "s"}
    chat = server.ask("POST", "/v1/chat/completions", {"messages": [system, *talk]}).json()
    ours = json.loads(said["content"][0]["text"])
    theirs = json.loads(chat["choices"][0]["message"]["content"])
    assert ours["segments"] == theirs["segments"]


def test_the_answer_goes_on_with_the_last_message(server: Server) -> None:
    talk = [{"role": "user", "content": "show"}, {"role": "assistant", "content": "The Rh"}]
    said = server.ask("POST", MESSAGES, {"max_tokens": 9, "messages": talk}).json()
    command = json.loads(said["content"][0]["text"])
    assert command["segments"][-1][0] == "assistant\nThe Rh"


def test_an_answer_that_is_limited(server: Server) -> None:
    body = server.message("one two three", max_tokens=2).json()
    assert (body["content"][0]["text"], body["stop_reason"]) == ("one two", "max_tokens")
    body = server.message("one two three", max_tokens=64_000).json()
    assert body["stop_reason"] == "end_turn"
    assert body["sheily"]["clamped"] == {"max_tokens": 100}
    body = server.message("timed-out").json()
    assert (body["stop_reason"], body["sheily"]) == ("max_tokens", {"timed_out": True})


def test_the_stop_string_that_ended_it(server: Server) -> None:
    fields = {"stop_sequences": ["a", "é b"]}
    body = server.message("stopped 1 one two", **fields).json()
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "é b")
    events = server.message("stopped 1 one two", stream=True, **fields).named_events()
    assert events[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "é b"}


def test_a_body_like_that_of_claude_code(llama3: Server) -> None:
    """A large system text in marked blocks, twenty tools, thoughts, metadata and betas."""
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    options = {
        "type": "object",
        "properties": {
            "file_path": {"type": "string", "description": "The absolute path"},
            "limit": {"type": "number", "exclusiveMinimum": 0},
            "todos": {"type": "array", "items": {"type": "object", "properties": {"id": {}}}},
        },
        "required": ["file_path"],
        "additionalProperties": False,
        "$schema": "http://json-schema.org/draft-07/schema#",
    }
    tools = [
        {"name": f"Tool{i}", "description": "Reads a file.\n" * 20, "input_schema": options}
        for i in range(19)
    ]
    tools.append({**tools[0], "name": "mcp__server__last", **mark})
    read = {"type": "tool_use", "id": "toolu_1", "name": "Tool1", "input": {"file_path": "/a"}}
    body = {
        "model": "fake-model",
        "max_tokens": 32_000,
        "stream": True,
        "temperature": 1,
        "system": [
            {"type": "text", "text": "You are a coding agent.", **mark},
            {"type": "text", "text": "Follow the rules. " * 300, **mark},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>Today is Friday.</system-reminder>"},
                    {"type": "text", "text": "What is in /a?", **mark},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "I read it.", "signature": "c2ln"},
                    {"type": "text", "text": "I will read it."},
                    read,
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "text", "text": "File does not exist."}],
                        "is_error": True,
                        **mark,
                    },
                    {"type": "text", "text": "one two", **mark},
                ],
            },
        ],
        "tools": tools,
        "metadata": {"user_id": "user_0123_account__session_4567"},
        "thinking": {"type": "enabled", "budget_tokens": 31_999},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    }
    headers = {
        "X-Api-Key": "none",
        "Authorization": "Bearer none",
        "Anthropic-Version": "2023-06-01",
        "Anthropic-Beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "X-Stainless-Lang": "js",
        "X-App": "cli",
    }
    answer = llama3.ask("POST", f"{MESSAGES}?beta=true", body, headers)
    assert answer.status == 200, answer.body
    events = answer.named_events()
    text = "".join(e["delta"].get("text", "") for e in events if "delta" in e)
    assert text == "one two"
    told = events[0]["message"]["sheily"]
    assert sorted(told["ignored"]) == [
        "context_management",
        "messages[].content[].thinking",
        "thinking",
    ]
    assert told["clamped"] == {"max_tokens": 100}
    count = {name: body[name] for name in ("model", "system", "messages", "tools", "thinking")}
    counted = llama3.ask("POST", f"{COUNT}?beta=true", count, headers).json()
    assert counted["input_tokens"] > 10_000  # a byte is a token
    assert llama3.ask("POST", MESSAGES, {**body, "model": "claude-x"}).status == 404


def test_a_model_of_anthropic_s_by_its_alias(serve: Serve) -> None:
    server = serve(model_aliases=("claude-x",))
    server.wait_for("ready")
    assert server.message("hi", model="claude-x").json()["model"] == "fake-model"
    error = problem(server.message("hi", model="claude-y"), 404, "not_found_error")
    assert (error["param"], error["code"]) == ("model", "model_not_found")


# --- streams --------------------------------------------------------------------------------------


def test_a_stream(server: Server) -> None:
    events = server.message("uno dós", stream=True).named_events()
    assert events[0]["message"].pop("id").startswith("msg_")
    said = {"sheily": {}, "model": "fake-model"}
    n_prompt = events[0]["message"]["usage"]["input_tokens"]
    usage = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    assert events == [
        {
            "type": "message_start",
            "message": {
                "type": "message",
                "role": "assistant",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": n_prompt, "output_tokens": 0, **usage},
                **said,
            },
        },
        {"type": "ping"},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": text},
            }
            for text in ("uno", " dós")
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {
                "input_tokens": n_prompt - 1,
                "output_tokens": 2,
                "cache_read_input_tokens": 1,
                "cache_creation_input_tokens": 0,
            },
            "sheily": {},
        },
        {"type": "message_stop"},
    ]


def test_a_stream_is_kept_alive_by_pings(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "KEEP_ALIVE_S", 0.0)
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'
    with server.opened("hang", MESSAGES, stream=True, max_tokens=9) as connection:
        data = b""
        while data.count(ping) < 3:  # the first one is there anyway
            part = connection.recv(65536)
            assert part, data
            data += part
    assert b"keep-alive" not in data


def test_an_error_in_the_middle_is_the_last_event(server: Server) -> None:
    answer = server.message("fail engine_error", stream=True)
    assert answer.status == 200
    *_, last = answer.named_events()
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert last["error"]["code"] == "engine_error"
    assert last["request_id"] == answer.headers["request-id"]


# --- tools ----------------------------------------------------------------------------------------


def test_tools_are_in_the_prompt(llama3: Server) -> None:
    prompt = prompt_of(llama3, tools=[WEATHER])
    assert '"name": "weather"' in prompt
    assert '"description": "The weather."' in prompt
    assert "weather" not in prompt_of(llama3, tools=[WEATHER], tool_choice={"type": "none"})


def test_a_call(llama3: Server) -> None:
    body = llama3.message(CALL, tools=[WEATHER]).json()
    (block,) = body["content"]
    assert block.pop("id").startswith("toolu_")
    assert block == {"type": "tool_use", "name": "weather", "input": {"city": "A Coruña"}}
    assert body["stop_reason"] == "tool_use"


def test_text_and_calls_in_their_order(llama3: Server) -> None:
    fields = {"tools": [WEATHER], "max_tokens": 90}
    body = llama3.message(f"Well. {CALL}; {CALL}", **fields).json()
    assert [block["type"] for block in body["content"]] == ["text", "tool_use", "tool_use"]
    one = {"type": "auto", "disable_parallel_tool_use": True}
    command = show(llama3, tools=[WEATHER], tool_choice={**one, "type": "any"})
    assert command["grammar"]["param"] == "tools"


def test_a_call_in_a_stream(llama3: Server) -> None:
    events = llama3.message(CALL, tools=[WEATHER], stream=True).named_events()
    start = next(event for event in events if event["type"] == "content_block_start")
    assert start["content_block"]["name"] == "weather"
    assert start["content_block"]["input"] == {}
    pieces = [
        event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"
    ]
    assert json.loads("".join(pieces)) == {"city": "A Coruña"}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_call_that_was_cut_off(llama3: Server) -> None:
    body = llama3.message(CALL, tools=[WEATHER], max_tokens=5).json()
    (block,) = body["content"]
    assert (block["name"], body["stop_reason"]) == ("weather", "max_tokens")
    assert block["input"] == {"city": "A"}


def test_the_loop_of_a_tool(llama3: Server) -> None:
    talk: list[Any] = [{"role": "user", "content": CALL}]
    for i in range(3):
        body = {"max_tokens": 60, "tools": [WEATHER], "messages": talk}
        said = llama3.ask("POST", MESSAGES, body).json()
        assert said["stop_reason"] == "tool_use"
        result = {
            "type": "tool_result",
            "tool_use_id": said["content"][0]["id"],
            "content": f"sunny {i}",
        }
        again = {"type": "text", "text": CALL if i < 2 else "show"}
        talk += [
            {"role": "assistant", "content": said["content"]},
            {"role": "user", "content": [result, again]},
        ]
    body = {"max_tokens": 60, "tools": [WEATHER], "messages": talk}
    command = json.loads(llama3.ask("POST", MESSAGES, body).json()["content"][0]["text"])
    texts = [segment[0] for segment in command["segments"]]
    results = [text for text in texts if "sunny" in text]
    assert [f"sunny {i}" in text for i, text in enumerate(results)] == [True] * 3
    assert texts.count("ipython") == 3


def test_structured_answers(server: Server) -> None:
    form = {"type": "json_schema", "schema": CITY}
    for fields in ({"output_config": {"format": form}}, {"output_format": form}):
        grammar = show(server, **fields)["grammar"]
        assert json.loads(next(iter(grammar["schemas"].values()))) == CITY
        assert grammar["loose"] == []


# --- count_tokens ---------------------------------------------------------------------------------


def test_tokens_of_a_prompt(server: Server) -> None:
    counted = server.ask("POST", COUNT, {"messages": [USER], "system": "s"})
    talk = [{"role": "system", "content": "s"}, USER]
    assert counted.json() == {
        "input_tokens": server.ask("POST", "/tokenize", {"messages": talk}).json()["count"],
        "sheily": {},
    }
    told = server.ask("POST", COUNT, {"messages": [USER], "mood": 1}).json()["sheily"]
    assert told == {"ignored": ["mood"]}
    error = problem(server.ask("POST", COUNT, {"messages": []}), 400, "invalid_request_error")
    assert error["param"] == "messages"


def test_tools_count(llama3: Server) -> None:
    def count(**fields: Any) -> int:
        body = {"messages": [USER], **fields}
        return int(llama3.ask("POST", COUNT, body).json()["input_tokens"])

    assert count(tools=[WEATHER]) > count() == count(tools=[WEATHER], tool_choice={"type": "none"})


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [MESSAGES, "/messages", f"{MESSAGES}/", COUNT])
def test_bad_bodies(server: Server, path: str) -> None:
    for body, param, code in (
        (b"{", None, "invalid_json"),
        (b"[]", None, "invalid_type"),
        ({"max_tokens": 1}, "messages", "missing_required_parameter"),
        ({"max_tokens": 1, "messages": [USER], "container": "x"}, "container", None),
    ):
        error = problem(server.ask("POST", path, body), 400, "invalid_request_error")
        assert error["param"] == param
        assert error["code"] == (code or "unsupported_parameter")


def test_errors_before_the_body_is_read(server: Server) -> None:
    plain = {"Content-Type": "text/plain"}
    problem(server.ask("POST", MESSAGES, b"a=b", plain), 415, "invalid_request_error")
    large = b" " * (MAX_BODY_BYTES + 1)
    problem(server.ask("POST", MESSAGES, large), 413, "request_too_large")
    answer = server.ask("GET", MESSAGES)
    assert problem(answer, 405, "invalid_request_error")["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "POST"
    error = problem(server.ask("POST", f"{MESSAGES}/batches", {}), 404, "not_found_error")
    assert error["code"] == "not_found"
    answer = server.ask("POST", MESSAGES, b"{}", {"Host": "evil.example"})
    assert problem(answer, 403, "permission_error")["code"] == "host_not_allowed"


def test_broken_http_in_this_shape(server: Server) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n"
    body = server.raw(head).json()
    assert (body["error"]["type"], body["request_id"]) == ("invalid_request_error", None)


def test_other_paths_keep_openai_s_shape(server: Server) -> None:
    for path in ("/v1/chat/completions", "/nowhere", "/v1/messagesx"):
        answer = server.ask("POST", path, b"{")
        assert answer.error()["type"] == "invalid_request_error"
        assert "request-id" not in answer.headers


def test_errors_of_the_engine(server: Server) -> None:
    error = problem(server.message("too-long 300 1"), 400, "invalid_request_error")
    assert error["message"].startswith("prompt is too long: 300 tokens > 255 maximum")
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")
    problem(server.message("fail engine_error"), 500, "api_error")
    answer = server.message("fail-early timeout")
    assert problem(answer, 504, "timeout_error")["code"] == "timeout"
    assert answer.headers["x-should-retry"] == "false"
    answer = server.message("refuse messages[0] It has no end.", system="s")
    assert problem(answer, 400, "invalid_request_error")["param"] == "system"


def test_a_full_queue(serve: Serve) -> None:
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    with server.opened("hang-late", stream=True) as connection:
        read_until(connection, b"once")
        answer = server.message("hi")
        assert problem(answer, 429, "rate_limit_error")["code"] == "queue_full"
        assert int(answer.headers["retry-after"]) >= 1


def test_a_model_that_is_not_ready(serve: Serve, tmp_path: Any) -> None:
    server = serve("--gate", str(tmp_path / "gate"))
    answer = server.message("hi")
    assert problem(answer, 503, "overloaded_error")["code"] == "loading"
    assert int(answer.headers["retry-after"]) >= 1


def test_strictly_read(serve: Serve) -> None:
    server = serve(strict="on")
    server.wait_for("ready")
    thinking = {"type": "enabled", "budget_tokens": 1024}
    for fields, param, code in (
        ({"mood": 1}, "mood", "unknown_parameter"),
        ({"thinking": thinking}, "thinking", "unsupported_parameter"),
        ({"output_config": {"effort": "low"}}, "output_config.effort", "unsupported_parameter"),
    ):
        error = problem(server.message("hi", **fields), 400, "invalid_request_error")
        assert (error["param"], error["code"]) == (param, code)
    assert server.message("hi", thinking={"type": "disabled"}, metadata={}).status == 200


# --- keys -----------------------------------------------------------------------------------------


def test_keys_in_either_header(serve: Serve) -> None:
    server = serve(api_key=("secret",))
    server.wait_for("ready")
    body = completion("hi", max_tokens=9)
    for headers in ({"X-Api-Key": "secret"}, {"Authorization": "Bearer secret"}):
        assert server.ask("POST", MESSAGES, body, headers).status == 200
    wrong: list[dict[str, str]] = [
        {},
        {"X-Api-Key": "x"},
        {"Authorization": "Bearer x"},
        {"X-Api-Key": "x", "Authorization": "Bearer secret"},
    ]
    for headers in wrong:
        answer = server.ask("POST", MESSAGES, body, headers)
        assert problem(answer, 401, "authentication_error")["code"] == "invalid_api_key"


def test_a_page_may_read_the_request_s_id(server: Server) -> None:
    page = {"Origin": "http://localhost:3000"}
    asked = {
        **page,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "anthropic-dangerous-direct-browser-access,"
        "anthropic-version,content-type,x-api-key,x-stainless-lang",
    }
    allowed = server.ask("OPTIONS", MESSAGES, headers=asked).headers
    assert "*" in allowed["access-control-allow-headers"].split(", ")
    answer = server.ask("POST", MESSAGES, completion("hi", max_tokens=9), page)
    assert "Request-Id" in answer.headers["access-control-expose-headers"].split(", ")
