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
without_tools = st.text("ua", max_size=40)
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
        ("uauau", 2, "au"),
        # the cut falls on a result: its call and the results go with it
        ("uctau", 4, "au"),
        ("uctttau", 4, "au"),
        # a cut before the call keeps all of it
        ("uactau", 4, "ctau"),
        # nothing but results would stay, so the cut moves back to the call
        ("uct", 1, "ct"),
        ("uctttt", 2, "ctttt"),
        ("uactttttt", 3, "ctttttt"),
        # system messages between results change nothing
        ("ucstst", 2, "cstst"),
        # results that follow no call stay with what they follow
        ("uuttt", 2, "uttt"),
        ("ttt", 1, "ttt"),
        ("ttu", 2, "u"),
        # nothing to drop
        ("tu", 5, "tu"),
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


@given(without_tools, limits)
def test_without_tools_between_half_and_all_of_the_limit_stays(letters: str, limit: int) -> None:
    result, dropped = limit_history(conversation(letters), limit)
    assert len(result) <= limit
    assert dropped % max(1, limit // 2) == 0
    if dropped:
        assert len(result) > limit - max(1, limit // 2)


@given(without_tools, limits)
def test_without_tools_the_cut_stands_while_a_block_is_added(letters: str, limit: int) -> None:
    block = max(1, limit // 2)
    _, dropped = limit_history(conversation(letters), limit)
    _, later = limit_history(conversation(letters + "u" * block), limit)
    assert later in (dropped, dropped + block)
    cuts = {
        limit_history(conversation(letters + "u" * more), limit)[1] for more in range(block + 1)
    }
    assert len(cuts) <= 2


@given(any_conversation, st.sampled_from("suact"), limits)
def test_the_cut_never_moves_back_when_a_message_is_added(
    letters: str, added: str, limit: int
) -> None:
    _, dropped = limit_history(conversation(letters), limit)
    _, later = limit_history(conversation(letters + added), limit)
    assert later >= dropped


@given(with_tools, limits)
def test_no_call_is_parted_from_its_results(letters: str, limit: int) -> None:
    others = kept(letters, limit).replace("s", "")
    assert not others.startswith("t")


@given(any_conversation, limits)
def test_something_beside_results_stays_if_there_was_any(letters: str, limit: int) -> None:
    others = letters.replace("s", "")
    result = kept(letters, limit).replace("s", "")
    assert bool(result) == bool(others)
    assert bool(result.strip("t")) == bool(others.strip("t"))


@given(any_conversation, limits)
def test_more_than_the_limit_stays_only_as_one_last_group(letters: str, limit: int) -> None:
    result = kept(letters, limit).replace("s", "")
    assert len(result) <= limit or result[1:].strip("t") == ""


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
        ("suau", 1, "sau"),
        ("suau", 2, "su"),
        ("suau", 3, "su"),
        ("suau", 100, "su"),
        ("usas", 1, "sas"),
        # a call goes with its results, and results with their call
        ("uctau", 2, "au"),
        ("uctau", 1, "ctau"),
        ("cttu", 1, "u"),
        # the last group stays whole
        ("uctt", 3, "ctt"),
        ("uctt", 1, "ctt"),
        ("ctt", 2, "ctt"),
        ("ttt", 1, "ttt"),
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


@given(with_tools, st.integers(0, 50))
def test_dropping_parts_no_call_from_its_results(letters: str, count: int) -> None:
    assert not left(letters, count).replace("s", "").startswith("t")


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
