"""LLMClient's completions of raw prompts, and the chunks of its chats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sheily_server.client import LLMClient, LLMProtocolError, Reply, StreamInterruptedError
from tests.support.fake_server import DONE, FakeServer, answer, event, stream


def choice(text: object, index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"text": text, "index": index, "finish_reason": finish, "logprobs": None}


def chunk(*choices: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"choices": list(choices)}).encode() + b"\n\n"


@pytest.mark.parametrize("prompt", ["Once", [1, 2], ["a", "b"], [[1], [2, 3]]])
def test_a_completion(server: FakeServer, client: LLMClient, prompt: Any) -> None:
    body = {"choices": [choice(" upon", finish="length"), choice("b", 1)], "usage": {"n": 3}}
    server.script = answer(200, body)
    found = client.complete(prompt, max_tokens=4)
    assert found == Reply(" upon", finish_reason="length", usage={"n": 3}, raw=body)
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/v1/completions")
    assert seen.json() == {"prompt": prompt, "stream": False, "max_tokens": 4}


def test_a_completion_in_pieces(server: FakeServer, client: LLMClient) -> None:
    usage = b'data: {"choices": [], "usage": {"total_tokens": 5}}\n\n'
    pieces = [chunk(choice("a")), chunk(choice("x", 1), choice("b")), chunk(choice(""))]
    server.script = stream(*pieces, usage, DONE)
    assert list(client.complete_stream("Once", n=2)) == ["a", "b"]
    assert server.seen[0].json() == {"prompt": "Once", "stream": True, "n": 2}


@pytest.mark.parametrize("choices", [[], [{}], [choice(5)], ["text"]])
def test_completions_of_another_form_are_protocol_errors(
    server: FakeServer, client: LLMClient, choices: list[Any]
) -> None:
    server.script = answer(200, {"choices": choices})
    with pytest.raises(LLMProtocolError):
        client.complete("x")
    if choices:
        server.script = stream(chunk(*choices), DONE)
        with pytest.raises(LLMProtocolError):
            list(client.complete_stream("x"))


def test_a_completion_that_is_cut(server: FakeServer, client: LLMClient) -> None:
    server.script = stream(chunk(choice("a")))
    found = client.complete_stream("x")
    assert next(found) == "a"
    with pytest.raises(StreamInterruptedError):
        next(found)


def test_stream_is_no_option_of_a_completion(client: LLMClient) -> None:
    with pytest.raises(ValueError, match="stream"):
        client.complete("x", stream=True)
    with pytest.raises(ValueError, match="stream"):
        client.complete_stream("x", stream=True)


def test_chunks_are_whole(server: FakeServer, client: LLMClient) -> None:
    server.script = stream(event("a", sheily={"ignored": ["x"]}), event("b"), DONE)
    found = list(client.chunks("hi", max_tokens=3))
    assert [one["choices"][0]["delta"] for one in found] == [{"content": "a"}, {"content": "b"}]
    assert found[0]["sheily"] == {"ignored": ["x"]}
    assert server.seen[0].json()["max_tokens"] == 3
