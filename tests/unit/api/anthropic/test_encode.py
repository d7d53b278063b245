"""Answers as one message of Anthropic's API, and as the events of a stream."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest

from sheily_server.api.anthropic import encode
from sheily_server.api.anthropic.dialect import ANTHROPIC
from sheily_server.api.dialect import Problem
from sheily_server.api.openai_chat.dialect import OPENAI
from sheily_server.api.routes import dialect_of
from sheily_server.backend.tickets import Ticket
from sheily_server.chat.reader import Piece, Progress
from sheily_server.chat.turn import Turn
from sheily_server.protocol.events import Finished
from sheily_server.templates.base import Call, CallPart, Offer


def finished_turn(**more: Any) -> Turn:
    defaults: dict[str, Any] = {
        "model": "m",
        "fingerprint": "fp",
        "dropped_messages": 0,
        "clamped": {},
        "ignored": (),
        "relaxed": (),
        "began": 0.0,
        "ticket": cast("Ticket", None),
        "n": 1,
        "offer": Offer(),
        "prompt_tokens": 9,
    }
    turn = Turn(**(defaults | more))
    turn.finished = Finished(
        id=1,
        prompt_tokens=9,
        cached_tokens=4,
        completion_tokens=3,
        queued_s=0,
        prefill_s=0,
        decode_s=0,
    )
    return turn


def parts(index: int, name: str, *arguments: str, ends: bool = True) -> Piece:
    said = [CallPart(index, arguments=text) for text in arguments]
    call = Call(name, "".join(arguments))
    last = (CallPart(index, ends=True),) if ends else ()
    return Piece(0, parts=(CallPart(index, name=name), *said, *last), calls=(call,) if ends else ())


def whole(*pieces: Piece, **more: Any) -> Any:
    return msgspec.to_builtins(encode.whole(finished_turn(**more), pieces))


def streamed(*pieces: Piece | Progress, **more: Any) -> list[dict[str, Any]]:
    """The events of a stream, whose names are their types."""
    events = encode.Events(finished_turn(**more))
    written = [*events.first(), *(e for piece in pieces for e in events.of(piece)), *events.last()]
    found = []
    for each in written:
        name, data = each.decode().removesuffix("\n\n").split("\n")
        said = json.loads(data.removeprefix("data: "))
        assert name == f"event: {said['type']}"
        found.append(said)
    return found


def rebuilt(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client puts together, as the official one does."""
    message: dict[str, Any] = events[0]["message"]
    inputs: dict[int, str] = {}
    closed: set[int] = set()
    for said in events[1:]:
        kind = said["type"]
        if kind == "content_block_start":
            assert said["index"] == len(message["content"])
            assert closed == set(range(said["index"]))  # one block at a time
            message["content"].append(said["content_block"])
        elif kind == "content_block_delta":
            assert said["index"] == len(message["content"]) - 1
            assert said["index"] not in closed
            block, delta = message["content"][said["index"]], said["delta"]
            if delta["type"] == "text_delta":
                block["text"] += delta["text"]
            else:
                inputs[said["index"]] = inputs.get(said["index"], "") + delta["partial_json"]
        elif kind == "content_block_stop":
            assert said["index"] not in closed
            closed.add(said["index"])
        elif kind == "message_delta":
            message |= said["delta"] | {"usage": said["usage"], "sheily": said["sheily"]}
    assert closed == set(range(len(message["content"])))
    for index, arguments in inputs.items():
        message["content"][index]["input"] = json.loads(arguments)
    return message


END = Piece(0, finish="stop")
CALLED = Piece(0, finish="tool_calls")


@pytest.mark.parametrize(
    ("pieces", "content", "reason"),
    [
        ([END], [], "end_turn"),
        ([Piece(0, "one"), Piece(0, " two"), END], ["one two"], "end_turn"),
        ([Piece(0, "one"), Piece(0, finish="length")], ["one"], "max_tokens"),
        ([parts(0, "f", '{"a":', " 1}"), CALLED], [("f", {"a": 1})], "tool_use"),
        (
            [Piece(0, "so "), parts(0, "f", "{}"), parts(1, "g", "{}"), Piece(0, "end"), CALLED],
            ["so ", ("f", {}), ("g", {}), "end"],
            "tool_use",
        ),
    ],
)
def test_an_answer_whole_and_in_events(pieces: list[Piece], content: Any, reason: str) -> None:
    for message in (whole(*pieces), rebuilt(streamed(*pieces))):
        assert message["id"].startswith("msg_")
        assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "m")
        assert (message["stop_reason"], message["stop_sequence"]) == (reason, None)
        assert message["usage"] == {
            "input_tokens": 5,
            "output_tokens": 3,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 0,
        }
        found = [
            block["text"] if block["type"] == "text" else (block["name"], block["input"])
            for block in message["content"]
        ]
        assert found == content
        ids = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        assert len(set(ids)) == len(ids)
        assert all(id.startswith("toolu_") for id in ids)


def test_the_order_of_events() -> None:
    kinds = [said["type"] for said in streamed(Piece(0, "a"), parts(0, "f", "{}"), CALLED)]
    assert kinds == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_the_stop_string_that_ended_an_answer() -> None:
    end = Piece(0, finish="stop", stop="END")
    for message in (whole(Piece(0, "a"), end), rebuilt(streamed(Piece(0, "a"), end))):
        assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    called = Piece(0, finish="tool_calls", stop="END")
    message = whole(parts(0, "f", "{}"), called)
    assert (message["stop_reason"], message["stop_sequence"]) == ("tool_use", None)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ('{"a": "x', {"a": "x"}),
        ('{"a": 1, "b', {"a": 1}),
        ("", {}),
        ("[1]", {}),
        ("nonsense", {}),
    ],
)
def test_arguments_that_were_cut_off(arguments: str, found: dict[str, Any]) -> None:
    message = whole(parts(0, "f", arguments), Piece(0, finish="length"))
    assert message["content"][0]["input"].items() >= found.items()
    assert message["stop_reason"] == "max_tokens"


def test_what_differs_from_what_was_asked_is_told() -> None:
    more: dict[str, Any] = {"ignored": ("x",), "clamped": {"max_tokens": 3}, "dropped_messages": 2}
    expected = {"ignored": ["x"], "clamped": {"max_tokens": 3}, "dropped_messages": 2}
    assert whole(END, **more)["sheily"] == expected
    events = streamed(END, **more)
    assert events[0]["message"]["sheily"] == events[-2]["sheily"] == expected


def test_progress_is_not_told() -> None:
    progress = Progress(queue_place=1, prompt_tokens=2)
    kinds = [said["type"] for said in streamed(progress, END)]
    assert kinds == ["message_start", "ping", "message_delta", "message_stop"]


def test_an_error_in_the_middle_is_an_event_of_its_own() -> None:
    written = encode.Events(finished_turn()).error(b'{"type":"error"}')
    assert written == b'event: error\ndata: {"type":"error"}\n\n'


# --- the dialect ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_types_of_errors(status: int, type: str) -> None:
    problem = Problem(status=status, message="m", param="p", code="c", request_id="req_1")
    assert msgspec.to_builtins(ANTHROPIC.write(problem)) == {
        "type": "error",
        "error": {"type": type, "message": "m", "param": "p", "code": "c"},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", ANTHROPIC),
        ("/messages", ANTHROPIC),
        ("/v1/messages/", ANTHROPIC),
        ("/v1/messages/count_tokens", ANTHROPIC),
        ("/v1/messages/batches/x", ANTHROPIC),
        ("/v1/messages2", OPENAI),
        ("/v1/chat/completions", OPENAI),
        ("/nowhere", OPENAI),
        ("", OPENAI),
        ("/" * 10_000, OPENAI),
    ],
)
def test_a_path_has_a_dialect(path: str, dialect: Any) -> None:
    assert dialect_of(path) is dialect
