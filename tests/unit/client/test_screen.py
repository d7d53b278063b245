"""What is printed on a terminal, and what of it could control that."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.client.screen import Screen, harmless


class Paper(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("two\nlines\tand ñ 🙂", "two\nlines\tand ñ 🙂"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\rb\x08\x7f\x9b31m", "a\\x0db\\x08\\x7f\\x9b31m"),
        ("\u202eevil\u202c \u2066x\u2069", "\\u202eevil\\u202c \\u2066x\\u2069"),
        ("\ud83d", "\\ud83d"),
        ("שלום\u200f مرحبا", "שלום\u200f مرحبا"),
    ],
)
def test_what_controls_a_terminal_is_written_out(text: str, printed: str) -> None:
    assert harmless(text) == printed


@given(st.lists(st.integers(0, 0x10FFFF).map(chr)).map("".join))
def test_any_text_is_harmless_afterwards(text: str) -> None:
    written = harmless(text)
    assert written.encode("utf-8").decode("utf-8") == written
    for letter in written:
        assert letter in "\n\t" or not (ord(letter) < 32 or 127 <= ord(letter) < 160)
    assert harmless(written) == written


def printed(
    environment: Mapping[str, str], *, out: bool = True, err: bool = True
) -> tuple[str, str]:
    """Both streams, after an answer and what is said of it."""
    answers, notes = Paper(out), Paper(err)
    screen = Screen(answers, notes, environment)
    screen.answer("a\x1b")
    screen.answer("")
    screen.note("b\x1b")
    screen.error("c")
    screen.answer("d\n")
    screen.end_line()
    return answers.getvalue(), notes.getvalue()


def test_on_a_terminal() -> None:
    assert printed({}) == ("a\\x1b\nd\n", "\x1b[2mb\\x1b\x1b[0m\n\x1b[31merror: c\x1b[0m\n")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colours(environment: Mapping[str, str]) -> None:
    assert printed(environment) == ("a\\x1b\nd\n", "b\\x1b\nerror: c\n")
    assert "\x1b[2m" in printed({"NO_COLOR": "", "TERM": "xterm"})[1]


def test_in_a_pipe_an_answer_is_as_it_is() -> None:
    assert printed({}, out=False, err=False) == ("a\x1b\nd\n", "b\\x1b\nerror: c\n")
