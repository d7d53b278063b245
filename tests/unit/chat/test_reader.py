"""One choice's answer: when its text is let go, and when it is a call."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.chat.reader import AnswerReader, Piece
from sheily_server.protocol.events import ChoiceFinished, Text, TokenLogprob
from sheily_server.templates.base import Call, CallPart, Function, Offer
from sheily_server.templates.llama3 import TEMPLATE

F = Function("f")
NOTHING = Offer((), forced=False, several=False)
AUTO = Offer((F,), forced=False, several=True)
FORCED = Offer((F,), forced=True, several=True)
JSON_CALL = '{"name": "f", "parameters": {"a": 1}}'
CALL = Call("f", '{"a": 1}')
CALLED = (CallPart(0, name="f"), CallPart(0, arguments='{"a": 1}'), CallPart(0, ends=True))
AGAIN = tuple(dataclasses.replace(part, index=1) for part in CALLED)


def logprob(text: str) -> TokenLogprob:
    return TokenLogprob(text.encode(), -0.5, [])


def read(offer: Offer, *texts: str, reason: str = "stop", logprobs: bool = False) -> list[Piece]:
    """The pieces of an answer in these events, choice 3."""
    reader = AnswerReader(3, offer, TEMPLATE.calls)
    pieces: list[Piece] = []
    for text in texts:
        pieces += reader.take(Text(1, 3, text, [logprob(text)] if logprobs else None))
    return pieces + reader.end(ChoiceFinished(id=1, choice=3, reason=reason, timed_out=False))


def test_without_tools_text_goes_out_as_it_comes() -> None:
    for texts in (["Hel", "lo"], ["{", "}"], [JSON_CALL]):
        assert read(NOTHING, *texts) == [*(Piece(3, t) for t in texts), Piece(3, finish="stop")]


def test_the_end_tells_the_stop_string() -> None:
    end = ChoiceFinished(id=1, choice=3, reason="stop", timed_out=False, stop="END")
    for offer in (NOTHING, AUTO):
        reader = AnswerReader(3, offer, TEMPLATE.calls)
        assert reader.end(end) == [Piece(3, finish="stop", stop="END")]


def test_with_tools_text_that_is_no_call_goes_out_as_it_comes() -> None:
    assert read(AUTO, "Hel", "lo {", "}") == [
        Piece(3, "Hel"),
        Piece(3, "lo"),
        Piece(3, " {}"),
        Piece(3, finish="stop"),
    ]


def test_blanks_wait_for_what_is_behind_them() -> None:
    assert read(AUTO, " ", "\n", "a", "b") == [
        Piece(3, " \na"),
        Piece(3, "b"),
        Piece(3, finish="stop"),
    ]


def test_the_python_tag_may_come_in_parts() -> None:
    assert read(AUTO, "<|python", "_tag|>f(a=1)") == [
        Piece(3, parts=CALLED, calls=(CALL,)),
        Piece(3, finish="tool_calls"),
    ]
    assert read(AUTO, "<", "b>") == [Piece(3, "<b>"), Piece(3, finish="stop")]


@pytest.mark.parametrize("offer", [AUTO, FORCED])
def test_a_call_comes_in_parts_and_whole_at_its_end(offer: Offer) -> None:
    assert read(offer, '{"name": "f", ', '"parameters": {"a"', ": 1", "}}") == [
        Piece(3, parts=(CallPart(0, name="f"), CallPart(0, arguments="{"))),
        Piece(3, parts=(CallPart(0, arguments='"a": '),)),
        Piece(3, parts=(CallPart(0, arguments="1}"), CallPart(0, ends=True)), calls=(CALL,)),
        Piece(3, finish="tool_calls"),
    ]


def test_several_calls_and_the_text_around_them() -> None:
    assert read(AUTO, f"Both: {JSON_CALL}; {JSON_CALL} Done.") == [
        Piece(3, "Both:"),
        Piece(3, parts=CALLED + AGAIN, calls=(CALL, CALL)),
        Piece(3, " Done."),
        Piece(3, finish="tool_calls"),
    ]


def test_what_looked_like_a_call_and_is_none_goes_out_at_the_end() -> None:
    assert read(AUTO, '{"a', '": 1}') == [Piece(3, '{"a": 1}'), Piece(3, finish="stop")]


def test_an_unknown_function_is_text() -> None:
    text = JSON_CALL.replace('"f"', '"g"')
    assert read(AUTO, text) == [Piece(3, text), Piece(3, finish="stop")]


@pytest.mark.parametrize("offer", [AUTO, FORCED])
def test_a_call_that_was_cut_off_has_what_there_is(offer: Offer) -> None:
    begun = (CallPart(0, name="f"), CallPart(0, arguments='{"a": "x'))
    assert read(offer, '{"name": "f", "parameters": {"a": "x', reason="length") == [
        Piece(3, parts=begun),
        Piece(3, parts=(CallPart(0, ends=True),), calls=(Call("f", '{"a": "x'),)),
        Piece(3, finish="length"),
    ]


def test_a_whole_call_before_the_cut_stays_a_call() -> None:
    assert read(AUTO, JSON_CALL, "\n", reason="length") == [
        Piece(3, parts=CALLED, calls=(CALL,)),
        Piece(3, finish="length"),
    ]


@pytest.mark.parametrize("offer", [NOTHING, AUTO, FORCED])
def test_an_empty_answer_has_an_end(offer: Offer) -> None:
    assert read(offer) == [Piece(3, finish="stop")]
    assert read(offer, reason="length") == [Piece(3, finish="length")]


def test_logprobs_go_with_what_was_held_back() -> None:
    assert read(AUTO, "{", "x", logprobs=True) == [
        Piece(3, "{x", logprobs=(logprob("{"), logprob("x"))),
        Piece(3, finish="stop"),
    ]
    assert read(AUTO, "a", "b", logprobs=True) == [
        Piece(3, "a", logprobs=(logprob("a"),)),
        Piece(3, "b", logprobs=(logprob("b"),)),
        Piece(3, finish="stop"),
    ]
    assert read(AUTO, JSON_CALL, logprobs=True) == [
        Piece(3, "", logprobs=(logprob(JSON_CALL),), parts=CALLED, calls=(CALL,)),
        Piece(3, finish="tool_calls"),
    ]


def test_logprobs_without_text_are_not_lost() -> None:
    for offer in (NOTHING, AUTO, FORCED):
        assert read(offer, "", logprobs=True) == [
            Piece(3, "", logprobs=(logprob(""),)),
            Piece(3, finish="stop"),
        ]


texts = st.lists(
    st.sampled_from([" ", "{", "}", "[", "]", "a", "<|python_tag|>", JSON_CALL, "; ", ""]),
    max_size=6,
)


@given(texts, st.sampled_from([NOTHING, AUTO, FORCED]), st.sampled_from(["stop", "length"]))
def test_nothing_is_lost_or_said_twice(parts: list[str], offer: Offer, reason: str) -> None:
    *pieces, last = read(offer, *parts, reason=reason, logprobs=True)
    calls = [call for piece in pieces for call in piece.calls]
    if not calls and reason == "stop":
        assert "".join(piece.text for piece in pieces) == "".join(parts)
    assert calls in ([CALL] * len(calls), [Call("f", "")])
    said = b"".join(logprob.piece for piece in pieces for logprob in piece.logprobs)
    assert said == "".join(parts).encode()
    assert last.finish == ("tool_calls" if calls and reason == "stop" else reason)
    assert all(piece.finish is None for piece in pieces)
    assert all(piece.text or piece.parts or piece.logprobs for piece in pieces)
