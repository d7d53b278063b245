"""Tokens on their way to text: the log-probability of a token goes out with the token's text."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sheily_server.engine.choice import Choice
from sheily_server.engine.scheduling.sequence import TokenSequence
from sheily_server.protocol.events import ChoiceFinished, Text, TokenLogprob


def token(piece: bytes) -> TokenLogprob:
    return TokenLogprob(piece, -1.0, [])


def run(
    pieces: Sequence[bytes], stop: Sequence[str] = (), logprobs: bool = True
) -> tuple[list[Text], Choice]:
    """The events of an answer of these tokens, up to a stop string, its end included."""
    choice = Choice(request=7, index=2, sequence=TokenSequence(1, [1], 10), stop=stop)
    events: list[Text] = []
    for piece in pieces:
        events += choice.take(piece, token(piece) if logprobs else None)
        if choice.stopped:
            break
    return events + choice.finish(), choice


def said(events: Sequence[Text]) -> list[tuple[str, list[bytes] | None]]:
    return [
        (event.text, None if event.logprobs is None else [found.piece for found in event.logprobs])
        for event in events
    ]


def test_each_token_goes_with_its_text() -> None:
    events, _ = run([b"Hel", b"lo", b"!"])
    assert said(events) == [("Hel", [b"Hel"]), ("lo", [b"lo"]), ("!", [b"!"])]
    assert {(event.id, event.choice) for event in events} == {(7, 2)}


def test_without_logprobs_there_are_none() -> None:
    events, _ = run([b"Hel", b"\xc3", b"\xa9"], logprobs=False)
    assert said(events) == [("Hel", None), ("é", None)]


def test_the_tokens_of_one_character_go_together() -> None:
    events, _ = run([b"a\xf0\x9f", b"\x98", b"\x80b", b"c"])
    assert said(events) == [
        ("a", None),
        ("😀b", [b"a\xf0\x9f", b"\x98", b"\x80b"]),
        ("c", [b"c"]),
    ]


def test_what_may_be_a_stop_string_waits_with_its_token() -> None:
    events, choice = run([b"one ", b"E", b"N", b"x"], ["END"])
    assert said(events) == [("one ", [b"one "]), ("ENx", [b"E", b"N", b"x"])]
    assert not choice.stopped


def test_a_stop_string_and_its_tokens_are_not_said() -> None:
    events, choice = run([b"one", b" E", b"ND", b"never"], ["END"])
    assert said(events) == [("one", [b"one"]), (" ", None)]
    assert choice.stopped
    assert choice.finished("stop", False) == ChoiceFinished(
        id=7, choice=2, reason="stop", timed_out=False, stop="END"
    )


def test_a_stop_string_that_never_came_is_said_at_the_end() -> None:
    events, choice = run([b"one", b" EN"], ["END"])
    assert said(events) == [("one", [b"one"]), (" ", None), ("EN", [b" EN"])]
    assert not choice.stopped
    assert choice.finished("length", True) == ChoiceFinished(
        id=7, choice=2, reason="length", timed_out=True
    )


def test_a_character_that_was_left_incomplete() -> None:
    events, _ = run([b"a", b"\xe2\x82"])
    assert said(events) == [("a", [b"a"]), ("\ufffd", [b"\xe2\x82"])]


def test_a_token_without_text_keeps_its_place() -> None:
    events, _ = run([b"", b"a", b"", b"\xc3", b"", b"\xa9"])
    assert said(events) == [
        ("", [b""]),
        ("a", [b"a"]),
        ("", [b""]),
        ("é", [b"\xc3", b"", b"\xa9"]),
    ]


def test_broken_bytes_do_not_bring_later_tokens_forward() -> None:
    """U+FFFD has three bytes where the token had one: counting bytes would let `E` go too soon."""
    events, _ = run([b"\xff", b"\xff", b"E", b"ND"], ["END"])
    assert said(events) == [("\ufffd", [b"\xff"]), ("\ufffd", [b"\xff"])]


pieces = st.lists(
    st.binary(max_size=3)
    | st.sampled_from(
        [b"E", b"N", b"D", b"EN", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80", b"\xff"]
    ),
    max_size=12,
)


def n_begun(tokens: Sequence[bytes]) -> int:
    """How many characters these tokens have begun."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return len(decoder.decode(b"".join(tokens))) + bool(decoder.getstate()[0])


@given(pieces, st.sampled_from([[], ["END"], ["é", "NN"], ["\ufffd"]]))
@example([b"\xff", b"E", b"ND"], ["END"])
def test_tokens_and_texts_stay_in_step(tokens: list[bytes], stop: list[str]) -> None:
    """A token is sent with the event that completes what it begins, no sooner and no later."""
    choice = Choice(request=7, index=2, sequence=TokenSequence(1, [1], 10), stop=stop)
    text, sent = "", []
    for taken, piece in enumerate(tokens, 1):
        for event in choice.take(piece, token(piece)):
            text += event.text
            sent += [found.piece for found in event.logprobs or ()]
        ready = [n for n in range(taken + 1) if n_begun(tokens[:n]) <= len(text)]
        assert sent == tokens[: max(ready)]
        if choice.stopped:
            break
    for event in choice.finish():
        text += event.text
        sent += [found.piece for found in event.logprobs or ()]
    if not choice.stopped:
        assert sent == tokens
        assert text == b"".join(tokens).decode("utf-8", "replace")


@given(pieces, st.sampled_from([[], ["END"]]))
def test_logprobs_change_nothing_about_the_text(tokens: list[bytes], stop: list[str]) -> None:
    texts = ["".join(e.text for e in run(tokens, stop, with_)[0]) for with_ in (True, False)]
    assert texts[0] == texts[1]


@given(pieces)
def test_an_event_says_something(tokens: list[bytes]) -> None:
    for event in run(tokens, ["END"])[0]:
        assert event.text or event.logprobs


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="stop"):
        run([b"a"], [""])
