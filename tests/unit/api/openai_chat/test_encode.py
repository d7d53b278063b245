"""The pieces of an answer in OpenAI's shapes, whole and in chunks."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.api.openai_chat import encode as completion
from sheily_server.backend.tickets import Ticket
from sheily_server.chat.reader import Piece
from sheily_server.chat.turn import Turn
from sheily_server.protocol.events import Finished, TokenLogprob
from sheily_server.templates.base import Call, CallPart, Offer

CALL = Call("f", '{"a": "é"}')
LOGPROB = TokenLogprob(b"\xc3\xa9", -0.25, [(b"\xc3\xa9", -0.25), (b"\xff", -2.0)])


def turn_of(n: int = 1, reasons: dict[int, str] | None = None) -> Turn:
    finished = Finished(
        id=1,
        prompt_tokens=12,
        cached_tokens=5,
        completion_tokens=6,
        queued_s=0.001,
        prefill_s=0.1,
        decode_s=0.5,
        drafted_tokens=9,
        accepted_tokens=4,
        accepted_prediction_tokens=3,
        rejected_prediction_tokens=2,
    )
    turn = Turn(
        model="m",
        fingerprint="fp_1",
        clamped={},
        ignored=(),
        relaxed=(),
        dropped_messages=2,
        began=0.0,
        ticket=Ticket(1, lambda id: None),
        n=n,
        offer=Offer(),
        created=99,
    )
    turn.finished = finished
    turn.finish_reasons = reasons or dict.fromkeys(range(n), "stop")
    return turn


def decoded(data: bytes) -> Any:
    return json.loads(re.sub(rb'"chatcmpl-[0-9a-f]{24}"', b'"chatcmpl-ID"', data))


def whole(turn: Turn, *pieces: Piece, logprobs: bool = False) -> Any:
    return decoded(msgspec.json.encode(completion.whole(turn, pieces, logprobs)))


def stream(
    turn: Turn, *pieces: Piece, include_usage: bool = False, logprobs: bool = False
) -> list[Any]:
    chunks = completion.Chunks(turn, include_usage=include_usage, logprobs=logprobs)
    found = [*chunks.first()]
    for piece in pieces:
        found += chunks.of(piece)
    *events, end = [event.removeprefix(b"data: ") for event in [*found, *chunks.last()]]
    assert end == b"[DONE]\n\n"
    return [decoded(event) for event in events]


def test_a_completion() -> None:
    assert whole(turn_of(), Piece(0, "Hel"), Piece(0, "lo"), Piece(0, finish="stop")) == {
        "id": "chatcmpl-ID",
        "object": "chat.completion",
        "created": 99,
        "model": "m",
        "system_fingerprint": "fp_1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 6,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 5},
            "completion_tokens_details": {
                "accepted_prediction_tokens": 3,
                "rejected_prediction_tokens": 2,
                "text_tokens": 6,
                "reasoning_tokens": 0,
                "audio_tokens": 0,
            },
        },
        "timings": {
            "predicted_n": 6,
            "predicted_ms": 500.0,
            "predicted_per_second": 10.0,
            "queued_ms": 1.0,
            "prompt_ms": 100.0,
            "prompt_per_second": 70.0,
            "draft_n": 9,
            "draft_n_accepted": 4,
            "cache_n": 5,
            "cache_disk_n": 0,
            "preempted": 0,
        },
        "sheily": {"dropped_messages": 2},
    }


def test_the_choices_of_a_completion_are_in_order() -> None:
    pieces = [
        Piece(2, "c"),
        Piece(0, "a"),
        Piece(2, finish="length"),
        Piece(1, "b"),
        Piece(0, "a"),
        Piece(1, finish="stop"),
        Piece(0, finish="stop"),
    ]
    choices = whole(turn_of(3), *pieces)["choices"]
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in choices] == [
        (0, "aa", "stop"),
        (1, "b", "stop"),
        (2, "c", "length"),
    ]


def test_an_empty_answer_is_an_empty_text() -> None:
    message = whole(turn_of(), Piece(0, finish="stop"))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "", "refusal": None}


def test_calls_have_no_content() -> None:
    pieces = [Piece(0, calls=(CALL, Call("g", "{}"))), Piece(0, finish="tool_calls")]
    choice = whole(turn_of(), *pieces)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert message["content"] is None
    ids = [call.pop("id") for call in message["tool_calls"]]
    assert all(re.fullmatch(r"call_[0-9a-f]{24}", id) for id in ids)
    assert len(set(ids)) == 2
    assert message["tool_calls"] == [
        {"type": "function", "function": {"name": "f", "arguments": '{"a": "é"}'}},
        {"type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


EXPECTED_LOGPROB = {
    "token": "é",
    "logprob": -0.25,
    "bytes": [195, 169],
    "top_logprobs": [
        {"token": "é", "logprob": -0.25, "bytes": [195, 169]},
        {"token": "\ufffd", "logprob": -2.0, "bytes": [255]},
    ],
}


def test_logprobs() -> None:
    pieces = [
        Piece(0, "é", logprobs=(LOGPROB,)),
        Piece(0, "é", logprobs=(LOGPROB,)),
        Piece(0, finish="stop"),
    ]
    choice = whole(turn_of(), *pieces, logprobs=True)["choices"][0]
    assert choice["logprobs"] == {"content": [EXPECTED_LOGPROB] * 2, "refusal": None}
    empty = whole(turn_of(), Piece(0, finish="stop"), logprobs=True)["choices"][0]
    assert empty["logprobs"] == {"content": [], "refusal": None}


def test_a_stream() -> None:
    chunks = stream(turn_of(), Piece(0, "Hel"), Piece(0, "lo"), Piece(0, finish="stop"))
    same = {
        "id": "chatcmpl-ID",
        "object": "chat.completion.chunk",
        "created": 99,
        "model": "m",
        "system_fingerprint": "fp_1",
    }

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**same, "choices": [choice], **more}

    assert chunks[:-1] == [
        chunk({"role": "assistant", "content": ""}, sheily={"dropped_messages": 2}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
    ]
    timings = chunks[-1].pop("timings")
    assert timings["predicted_per_second"] == 10.0
    assert chunks[-1] == chunk({}, "stop", sheily={"dropped_messages": 2})


def test_a_stream_with_usage() -> None:
    chunks = stream(turn_of(), Piece(0, "x"), Piece(0, finish="stop"), include_usage=True)
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 3
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 18
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


def test_the_end_of_the_last_choice_comes_with_the_timings() -> None:
    turn = turn_of(2, {1: "length", 0: "stop"})
    pieces = [Piece(1, "b"), Piece(1, finish="length"), Piece(0, "a"), Piece(0, finish="stop")]
    chunks = stream(turn, *pieces)
    seen = [
        (c["index"], c["delta"].get("content"), c["finish_reason"])
        for chunk in chunks
        for c in chunk["choices"]
    ]
    assert seen == [
        (0, "", None),
        (1, "", None),
        (1, "b", None),
        (1, None, "length"),
        (0, "a", None),
        (0, None, "stop"),
    ]
    assert ["timings" in chunk for chunk in chunks] == [False] * 5 + [True]
    assert ["sheily" in chunk for chunk in chunks] == [True] + [False] * 4 + [True]


def test_a_stream_of_calls() -> None:
    """First the id, the type and the name of each, then the arguments as they come."""
    parts = (
        CallPart(0, name="f"),
        CallPart(0, arguments='{"a": '),
        CallPart(0, arguments='"é"}'),
        CallPart(0, ends=True),
        CallPart(1, name="f"),
        CallPart(1, arguments="{}"),
        CallPart(1, ends=True),
    )
    pieces = [Piece(0, parts=parts[:2]), Piece(0, parts=parts[2:], calls=(CALL,))]
    _, *calls, end = stream(turn_of(1, {0: "tool_calls"}), *pieces, Piece(0, finish="tool_calls"))
    deltas = [chunk["choices"][0]["delta"] for chunk in calls]
    assert all(set(delta) == {"tool_calls"} for delta in deltas)
    found = [call for delta in deltas for call in delta["tool_calls"]]
    ids = [found[0].pop("id"), found[3].pop("id")]
    assert ids[0] != ids[1]
    begun = {"type": "function", "function": {"name": "f", "arguments": ""}}
    assert found == [
        {"index": 0, **begun},
        {"index": 0, "function": {"arguments": '{"a": '}},
        {"index": 0, "function": {"arguments": '"é"}'}},
        {"index": 1, **begun},
        {"index": 1, "function": {"arguments": "{}"}},
    ]
    assert end["choices"][0]["finish_reason"] == "tool_calls"


def test_text_beside_calls() -> None:
    pieces = [Piece(0, "Sure."), Piece(0, calls=(CALL,)), Piece(0, finish="tool_calls")]
    message = completion.whole(turn_of(), pieces, False).choices[0].message
    assert message.content == "Sure."
    assert isinstance(message.tool_calls, list)


def test_logprobs_in_a_stream() -> None:
    pieces = [
        Piece(0, "é", logprobs=(LOGPROB,)),
        Piece(0, "", logprobs=(LOGPROB,)),
        Piece(0, "", logprobs=(LOGPROB,), parts=(CallPart(0, name="f"),)),
        Piece(0, "", logprobs=(LOGPROB,), parts=(CallPart(0, ends=True),)),
        Piece(0, finish="stop"),
    ]
    for wanted in (True, False):
        chunks = stream(turn_of(), *pieces, logprobs=wanted)
        found = [chunk["choices"][0]["logprobs"] for chunk in chunks]
        content = {"content": [EXPECTED_LOGPROB], "refusal": None} if wanted else None
        assert found == [None, content, content, content, content, None]


def test_a_turn_that_says_nothing_streams_its_end() -> None:
    first, end = stream(turn_of(), Piece(0, finish="stop"))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert end["choices"][0]["delta"] == {}


@pytest.mark.parametrize("timed_out", [False, True])
def test_a_deadline_is_told_at_the_end(timed_out: bool) -> None:
    turn = turn_of()
    turn.timed_out = timed_out
    pieces = [Piece(0, finish="length")]
    for answer in (whole(turn, *pieces), stream(turn, *pieces)[-1]):
        assert answer["sheily"].get("timed_out", False) is timed_out


@given(st.data())
def test_a_stream_says_what_the_completion_says(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 3))
    texts = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.text(max_size=3)), max_size=8))
    order = data.draw(st.permutations(range(n)))
    pieces = [Piece(i, text) for i, text in texts]
    pieces += [Piece(i, finish="stop") for i in order]
    turn = turn_of(n, dict.fromkeys(order, "stop"))
    contents = [""] * n
    ends = []
    for chunk in stream(turn, *pieces):
        for choice in chunk["choices"]:
            assert choice["index"] not in ends
            contents[choice["index"]] += choice["delta"].get("content", "")
            if choice["finish_reason"] is not None:
                ends.append(choice["index"])
    assert ends == list(order)
    answer = whole(turn, *pieces)
    assert [choice["message"]["content"] for choice in answer["choices"]] == contents
