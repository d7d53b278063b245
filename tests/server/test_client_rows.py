"""What real clients send, one test for each thing that was found with them and that no other file
of this folder has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.server.conftest import Serve, make
from tests.support.serving import Server
from tests.support.waiting import until

pytestmark = pytest.mark.http

COMPLETIONS = "/v1/chat/completions"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "weather", "parameters": CITY} | function}


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = make(tmp_path_factory.mktemp("llama3"), "--dialect", "llama3", context_size=4096)
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


def shown(server: Server, **fields: Any) -> Any:
    """The Submit command that a request becomes."""
    answer = server.complete("show", **fields)
    assert answer.status == 200, answer.body
    return json.loads(answer.json()["choices"][0]["message"]["content"])


def test_a_loop_of_calls_keeps_its_question(llama3: Server) -> None:
    """As the agents' loops send it: eleven messages, of which one is the user's."""
    talk: list[dict[str, Any]] = [{"role": "user", "content": "the question"}]
    for i in range(5):
        call = {"name": "weather", "arguments": "{}"}
        calls = [{"id": f"c{i}", "type": "function", "function": call}]
        talk.append({"role": "assistant", "content": None, "tool_calls": calls})
        talk.append({"role": "tool", "tool_call_id": f"c{i}", "content": f"result {i}"})
    prompt = llama3.ask("POST", "/apply-template", {"messages": talk, "tools": [tool()]}).json()
    assert "the question" in prompt["prompt"]
    answer = llama3.ask("POST", COMPLETIONS, {"messages": talk, "tools": [tool()]})
    assert answer.status == 200
    assert "dropped_messages" not in answer.json()["sheily"]


def test_a_history_of_examples_is_kept(llama3: Server) -> None:
    pairs = [("user", "assistant")[i % 2] for i in range(16)]
    talk = [{"role": role, "content": f"{role} {i}"} for i, role in enumerate(pairs)]
    talk = [{"role": "system", "content": "S"}, *talk, {"role": "user", "content": "hi"}]
    answer = llama3.ask("POST", COMPLETIONS, {"messages": talk})
    assert "dropped_messages" not in answer.json()["sheily"]


def test_strict_functions_beside_a_schema(llama3: Server) -> None:
    schema = {"name": "n", "strict": True, "schema": {"enum": ["a river", "a sea"]}}
    form = {"type": "json_schema", "json_schema": schema}
    strict = tool(strict=True)
    either = shown(llama3, tools=[strict], response_format=form)["grammar"]
    assert set(either["schemas"]) == {
        "tools[0].function.parameters",
        "response_format.json_schema.schema",
    }
    forced = shown(llama3, tools=[strict], response_format=form, tool_choice="required")["grammar"]
    assert set(forced["schemas"]) == {"tools[0].function.parameters"}
    assert "a river" not in forced["lark"]


def test_more_tokens_than_there_are_is_lowered_and_said(server: Server) -> None:
    for limit in (8000, 32_000, 64_000):
        answer = server.complete("one two", max_tokens=limit)
        assert answer.status == 200
        assert answer.json()["sheily"]["clamped"] == {"max_tokens": 100}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        {"type": "string", "format": "password"},
        {"type": "string", "format": "path"},
        {"type": "string", "format": "binary"},
        {"type": "integer", "format": "int32"},
        {"type": "string", "maxLength": 10_000},
        {"oneOf": [{"type": "integer"}, {"type": "number"}], "not": {"const": 3}},
        {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"},
        {"type": "object", "propertyNames": {"pattern": "^a", "maxLength": 3}},
    ],
)
def test_forced_functions_follow_what_can_be_followed(llama3: Server, part: dict[str, Any]) -> None:
    parameters = {"type": "object", "properties": {"x": part}}
    grammar = shown(llama3, tools=[tool(parameters=parameters)], tool_choice="required")["grammar"]
    place = "tools[0].function.parameters"
    assert grammar["loose"] == [place]
    assert [name for name in grammar["relaxed"] if name.startswith(f"{place}.properties.x.")]


def test_the_words_of_a_prompt_that_is_too_long(server: Server) -> None:
    """Libraries find the class of the error by its beginning."""
    error = server.complete("too-long 300 1").error()
    assert error["message"].startswith("This model's maximum context length is 256 tokens")
    assert error["code"] == "context_length_exceeded"


def test_a_burst_of_one_script_is_queued(serve: Serve) -> None:
    server = serve(parallel=1)
    server.wait_for("ready")
    with ExitStack() as opened:
        for _ in range(40):
            opened.enter_context(server.opened("hang"))
        until(lambda: server.health()["active_requests"] == 40)
        for _ in range(server.config.queue - 39):
            opened.enter_context(server.opened("hang"))
        until(lambda: server.health()["active_requests"] == server.config.queue + 1)
        answer = server.complete("hi")
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1


def test_a_model_of_another_server_is_answered_with_a_hint(server: Server) -> None:
    answer = server.complete("hi", model="gpt-4o")
    assert answer.status == 404
    assert "LLM_MODEL_ALIASES" in answer.error()["message"]


def test_the_host_of_a_container_is_answered_with_the_setting(server: Server) -> None:
    answer = server.get("/health", Host="host.docker.internal:8005")
    assert answer.status == 403
    assert "host.docker.internal" in answer.error()["message"]
    assert "LLM_ALLOWED_HOSTS" in answer.error()["message"]


def test_a_body_without_its_type_is_answered_with_the_header(server: Server) -> None:
    body = b'{"message": "hi"}'
    head = f"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = server.raw(head.encode() + body)
    assert answer.status == 415
    assert "Content-Type: application/json" in answer.error()["message"]
