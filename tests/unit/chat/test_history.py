"""The history limit: what stays, and that the cut moves rarely."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.chat import history
from sheily_server.chat.history import drop_oldest, limit_history
from sheily_server.templates.base import Message, ToolCall

CALLS = (ToolCall("f", {}),)


def conversation(letters: str) -> list[Message]:
    """One message a letter: s(ystem), u(ser), a(ssistant), c(all), t(ool result); numbered."""
    kinds = {
        "s": Message("system"),
        "u": Message("user"),
        "a": Message("assistant"),
        "c": Message("assistant", "", tool_calls=CALLS),
        "t": Message("tool"),
    }
    return [
        Message(kinds[letter].role, f"{letter}{place}", tool_calls=kinds[letter].tool_calls)
        for place, letter in enumerate(letters)
    ]


def kept(letters: str, limit: int) -> str:
    messages, dropped = limit_history(conversation(letters), limit)
    assert dropped + len(messages) == len(letters)
    return "".join(message.text[0] for message in messages)


limits = st.integers(1, 12)
any_conversation = st.text("suact", max_size=40)
# As clients send them: every call followed by its results.
with_tools = st.lists(st.sampled_from(["s", "u", "a", "ct", "ctt", "ctttt"]), max_size=20).map(
    "".join
)


@pytest.mark.parametrize(
    ("letters", "limit", "expected"),
    [
        ("", 3, ""),
        ("s", 1, "s"),
        ("suauau", 5, "suauau"),
        ("uauaua", 5, "uaua"),
        ("uauauau", 5, "uauau"),
        ("uauauaua", 5, "uaua"),
        ("suauau", 4, "suau"),
        ("usasu", 1, "ssu"),
        ("uauau", 1, "u"),
        # whole turns go: the answer with its question
        ("uauau", 2, "u"),
        ("uuuuu", 2, "uu"),
        # what stands before the first question goes first
        ("aaua", 3, "ua"),
        # the turn that is being answered stays, however long it is
        ("uct", 1, "uct"),
        ("uctctctct", 2, "uctctctct"),
        ("uauctctctct", 4, "uctctctct"),
        ("suctau", 4, "su"),
        ("uctauct", 4, "uct"),
        # where the last message is an answer to be continued, its question is there
        ("uauaua", 1, "ua"),
        # system messages in a turn change nothing
        ("uaucstst", 2, "ucstst"),
        # without a question nobody knows what could go
        ("ttt", 1, "ttt"),
        ("acta", 1, "acta"),
        ("tu", 5, "tu"),
        ("ttu", 2, "u"),
    ],
)
def test_what_stays(letters: str, limit: int, expected: str) -> None:
    assert kept(letters, limit) == expected


def test_the_limit_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="limit"):
        limit_history([], 0)


def test_the_example_in_the_documentation_is_right() -> None:
    result = doctest.testmod(history)
    assert result.attempted > 0
    assert result.failed == 0


@given(any_conversation, limits)
def test_what_stays_is_the_end_and_all_system_messages(letters: str, limit: int) -> None:
    messages = conversation(letters)
    before = list(messages)
    result, dropped = limit_history(messages, limit)
    assert messages == before
    others = [message for message in messages if message.role != "system"]
    gone = others[:dropped]
    assert dropped == len(gone)
    assert result == [message for message in messages if message not in gone]


@given(any_conversation, limits)
def test_nothing_is_dropped_within_the_limit(letters: str, limit: int) -> None:
    others = len(letters.replace("s", ""))
    _, dropped = limit_history(conversation(letters), limit)
    assert dropped == 0 or others > limit


@given(st.integers(0, 30), limits)
def test_of_a_plain_talk_between_half_and_all_of_the_limit_stays(turns: int, limit: int) -> None:
    result, dropped = limit_history(conversation("ua" * turns + "u"), limit)
    assert len(result) <= limit
    assert dropped % 2 == 0
    if dropped:
        assert len(result) + 1 > limit - max(1, limit // 2)


@given(st.integers(0, 30), st.integers(4, 40))
def test_in_a_plain_talk_the_cut_stands_while_a_block_is_added(turns: int, limit: int) -> None:
    later = range(limit // 4)
    cuts = {limit_history(conversation("ua" * (turns + n) + "u"), limit)[1] for n in later}
    assert len(cuts) <= 2


@given(any_conversation, st.sampled_from("suact"), limits)
def test_the_cut_never_moves_back_when_a_message_is_added(
    letters: str, added: str, limit: int
) -> None:
    _, dropped = limit_history(conversation(letters), limit)
    _, later = limit_history(conversation(letters + added), limit)
    assert later >= dropped


@given(any_conversation, limits)
def test_the_turn_that_is_answered_stays_whole(letters: str, limit: int) -> None:
    others = letters.replace("s", "")
    result = kept(letters, limit).replace("s", "")
    assert result.endswith(others[max(others.rfind("u"), 0) :])
    assert result == others or result.startswith("u")


@given(any_conversation, limits)
def test_more_than_the_limit_stays_only_as_one_turn(letters: str, limit: int) -> None:
    result = kept(letters, limit).replace("s", "")
    assert len(result) <= limit or "u" not in result[1:]


def left(letters: str, count: int) -> str:
    return "".join(message.text[0] for message in drop_oldest(conversation(letters), count))


@pytest.mark.parametrize(
    ("letters", "count", "expected"),
    [
        ("", 1, ""),
        ("s", 1, "s"),
        ("u", 1, "u"),
        ("su", 5, "su"),
        ("suau", 0, "suau"),
        ("suau", -1, "suau"),
        ("suau", 1, "su"),
        ("suau", 2, "su"),
        ("suau", 100, "su"),
        ("suauau", 2, "suau"),
        ("suauau", 3, "su"),
        ("usau", 1, "su"),
        ("uctau", 1, "u"),
        ("uauct", 2, "uct"),
        ("uauct", 4, "uct"),
        ("cttu", 1, "u"),
        ("ctt", 2, "ctt"),
    ],
)
def test_dropping_the_oldest(letters: str, count: int, expected: str) -> None:
    assert left(letters, count) == expected


@given(any_conversation, st.integers(-2, 50))
def test_dropping_leaves_the_end_and_all_system_messages(letters: str, count: int) -> None:
    messages = conversation(letters)
    result = drop_oldest(messages, count)
    assert result == [message for message in messages if message in result]
    others = [message for message in result if message.role != "system"]
    assert letters.replace("s", "").endswith("".join(message.text[0] for message in others))
    assert len(result) - len(others) == letters.count("s")
    assert bool(others) == bool(letters.replace("s", ""))


@given(any_conversation)
def test_dropping_one_more_never_leaves_more(letters: str) -> None:
    lengths = [len(left(letters, count)) for count in range(len(letters) + 1)]
    assert lengths == sorted(lengths, reverse=True)


@given(with_tools, st.integers(1, 50))
def test_dropping_comes_to_an_end(letters: str, count: int) -> None:
    """Each round drops something or says, by changing nothing, that nothing more can go."""
    messages = conversation(letters)
    for _ in range(len(letters) + 1):
        fewer = drop_oldest(messages, count)
        if fewer == messages:
            return
        messages = fewer
    raise AssertionError("it never ends")
