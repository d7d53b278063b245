"""Conversations: what is sent, what is kept, and what the server says of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sheily_server.client import LLMClient, LLMError
from sheily_server.client.conversation import Conversation, Told
from tests.support.fake_server import (
    DONE,
    WAIT,
    FakeServer,
    answer,
    event,
    stream,
)


@pytest.fixture
def conversation(server: FakeServer) -> Iterator[Conversation]:
    with LLMClient(server.url, timeout=WAIT) as client:
        yield Conversation(client, {"max_tokens": 5})


def end(finish: str, **more: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": {}, "finish_reason": finish}], **more)


def turn(user: str, assistant: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def test_turns_follow_each_other(server: FakeServer, conversation: Conversation) -> None:
    first = event("Ho", sheily={"clamped": {"max_tokens": 3}, "ignored": ["x"]})
    last = end("length", sheily={"clamped": {"max_tokens": 3}, "timed_out": True})
    server.script = stream(first, event("la"), last, DONE)
    heard: list[str] = []
    told = conversation.ask("Hi", heard.append)
    assert heard == ["Ho", "la"]
    assert told.finish_reason == "length"
    assert told.sheily == {"clamped": {"max_tokens": 3}, "ignored": ["x"], "timed_out": True}
    assert conversation.messages == turn("Hi", "Hola")
    conversation.system = "Be brief."
    conversation.ask("More", heard.append)
    assert server.seen[0].json() == {
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "truncation": "trim",
        "max_tokens": 5,
    }
    assert server.seen[1].json()["messages"] == [
        {"role": "system", "content": "Be brief."},
        *turn("Hi", "Hola"),
        {"role": "user", "content": "More"},
    ]


@pytest.mark.parametrize(
    "script",
    [
        answer(503, {"error": {"message": "loading", "code": "loading"}}),
        stream(event("a")),
        stream(event("a"), b'data: {"error": {"message": "no"}}\n\n'),
        stream(event("a"), b'data: {"choices": [5]}\n\n'),
    ],
)
def test_nothing_is_kept_of_a_turn_that_failed(
    server: FakeServer, conversation: Conversation, script: Any
) -> None:
    server.script = stream(event("b"), DONE)
    conversation.ask("Hi", lambda text: None)
    server.script = script
    with pytest.raises(LLMError):
        conversation.ask("Again", lambda text: None)
    assert conversation.messages == turn("Hi", "b")


def test_what_there_is_of_a_stopped_answer_is_kept(
    server: FakeServer, conversation: Conversation
) -> None:
    def script(handler: Any) -> None:
        handler.events(event("one "), event("two"))
        handler.wait_for_hangup()

    def stop(text: str) -> None:
        if text == "two":
            raise KeyboardInterrupt

    server.script = script
    with pytest.raises(KeyboardInterrupt):
        conversation.ask("Count", stop)
    assert conversation.messages == turn("Count", "one two")


def test_an_empty_answer_is_not_kept(server: FakeServer, conversation: Conversation) -> None:
    server.script = stream(end("stop"), DONE)
    assert conversation.ask("Hi", lambda text: None).finish_reason == "stop"
    assert conversation.messages == []


@pytest.mark.parametrize(
    ("finish", "sheily", "line"),
    [
        ("stop", {}, ""),
        (None, {}, ""),
        ("length", {}, "cut off by the limit of tokens (--max-tokens, LLM_MAX_TOKENS)"),
        ("length", {"timed_out": True}, "cut short by the server's LLM_TIMEOUT"),
        ("stop", {"clamped": {"n": 2, "m": 3}}, "n was lowered to 2, m was lowered to 3"),
        ("stop", {"ignored": ["a", "b[0].c"]}, "without effect: a, b[0].c"),
        ("stop", {"relaxed": ["s.not"]}, "not followed: s.not"),
        ("stop", {"dropped_messages": 4}, "oldest messages left out of the prompt: 4"),
        ("stop", {"stored": False, "ignored": "ñ"}, 'stored: false; ignored: "ñ"'),
    ],
)
def test_what_the_server_says(finish: str | None, sheily: Mapping[str, Any], line: str) -> None:
    assert Told(finish_reason=finish, sheily=sheily).line() == line
