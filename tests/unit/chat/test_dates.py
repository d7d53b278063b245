"""The date a conversation keeps over midnight, and the table's bounds."""

from __future__ import annotations

import datetime
import threading
from pathlib import Path

import pytest

from sheily_server.chat.dates import ConversationDates
from sheily_server.kvstore.folder import Folder
from sheily_server.kvstore.notes import Notes
from sheily_server.templates.base import Message

MONDAY = datetime.date(2025, 3, 3)
TUESDAY = datetime.date(2025, 3, 4)
WEDNESDAY = datetime.date(2025, 3, 5)


def opening(user: str = "hi", system: str | None = None) -> list[Message]:
    before = [] if system is None else [Message("system", system)]
    return [*before, Message("user", user)]


def continued(user: str = "hi", system: str | None = None) -> list[Message]:
    return [*opening(user, system), Message("assistant", "hello"), Message("user", "and?")]


def test_a_conversation_keeps_its_date_over_midnight() -> None:
    dates = ConversationDates()
    assert dates.date_for(opening(), MONDAY) == MONDAY
    assert dates.date_for(continued(), TUESDAY) == MONDAY
    assert dates.date_for([*continued(), Message("assistant", "x")], WEDNESDAY) == MONDAY


def test_a_conversation_seen_late_keeps_the_date_it_was_first_seen() -> None:
    dates = ConversationDates()
    assert dates.date_for(continued(), MONDAY) == MONDAY
    assert dates.date_for(continued(), TUESDAY) == MONDAY


def test_a_new_conversation_with_the_same_words_gets_today() -> None:
    dates = ConversationDates()
    dates.date_for(opening(), MONDAY)
    assert dates.date_for(opening(), TUESDAY) == TUESDAY
    assert dates.date_for(continued(), WEDNESDAY) == TUESDAY


@pytest.mark.parametrize(
    "other",
    [
        continued("hi!"),
        continued("hi", "x"),
        continued("", "hi"),
        continued("i", "h"),
        continued("hi", "h"),
    ],
)
def test_other_texts_are_another_conversation(other: list[Message]) -> None:
    dates = ConversationDates()
    dates.date_for(opening(), MONDAY)
    dates.date_for(opening("", "h"), MONDAY)
    assert dates.date_for(other, TUESDAY) == TUESDAY


def test_only_the_last_used_stay() -> None:
    dates = ConversationDates(capacity=2)
    for name in ("a", "b"):
        dates.date_for(opening(name), MONDAY)
    assert dates.date_for(continued("a"), TUESDAY) == MONDAY
    dates.date_for(opening("c"), TUESDAY)
    assert dates.date_for(continued("a"), WEDNESDAY) == MONDAY
    assert dates.date_for(continued("b"), WEDNESDAY) == WEDNESDAY


@pytest.mark.parametrize("noted", [True, False])
def test_dates_are_noted_where_they_may_be(tmp_path: Path, noted: bool) -> None:
    notes = Notes(Folder(tmp_path / "cache"), "date", 16)
    dates = ConversationDates(notes=notes)
    assert dates.date_for(opening("a"), MONDAY, noted=noted) == MONDAY
    assert dates.date_for(continued("a"), TUESDAY, noted=noted) == MONDAY
    later = ConversationDates(notes=notes)
    assert later.date_for(continued("a"), TUESDAY) == (MONDAY if noted else TUESDAY)


def test_there_is_room_for_one_at_least() -> None:
    with pytest.raises(ValueError, match="capacity"):
        ConversationDates(capacity=0)


def test_conversations_without_a_user_have_a_date() -> None:
    dates = ConversationDates()
    assert dates.date_for([], MONDAY) == MONDAY
    assert dates.date_for([Message("system", "x"), Message("assistant", "y")], TUESDAY) == TUESDAY


def test_threads_share_a_table() -> None:
    dates = ConversationDates(capacity=4)
    failures: list[BaseException] = []

    def use(number: int) -> None:
        try:
            for round_number in range(300):
                dates.date_for(continued(str((number + round_number) % 7)), MONDAY)
        except BaseException as error:  # a thread's error would else be lost
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert dates.date_for(continued("3"), MONDAY) == MONDAY


def test_another_caller_s_conversation_is_another_one() -> None:
    dates = ConversationDates()
    dates.date_for(opening(), MONDAY, "one")
    assert dates.date_for(continued(), TUESDAY, "another") == TUESDAY
    assert dates.date_for(continued(), TUESDAY, "one") == MONDAY
