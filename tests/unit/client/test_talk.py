"""Questions, commands and errors of a talk, without a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from sheily_server.client import LLMClient, LLMError
from sheily_server.client.conversation import Conversation
from sheily_server.client.errors import LLMAPIError, LLMConnectionError, LLMTimeoutError
from sheily_server.client.screen import Screen
from sheily_server.client.talk import HELP, Talk, explained
from tests.support.fake_server import DONE, WAIT, FakeServer, answer, event, running, stream


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running() as started:
        started.script = stream(event("ok"), DONE)
        yield started


class Paper:
    """A talk whose lines are given, and what it prints."""

    def __init__(self, server: FakeServer, *lines: str) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.prompts: list[str] = []
        self._lines = iter(lines)
        with LLMClient(server.url, timeout=WAIT) as client:
            self.conversation = Conversation(client, {})
            screen = Screen(self.out, self.err, {})
            self.all_well = Talk(self.conversation, screen, self._read).run()

    def _read(self, prompt: str) -> str:
        self.prompts.append(prompt)
        try:
            return next(self._lines)
        except StopIteration:
            raise EOFError from None


def questions(server: FakeServer) -> list[str]:
    return [seen.json()["messages"][-1]["content"] for seen in server.seen]


def test_lines_that_go_on(server: FakeServer) -> None:
    paper = Paper(server, "one \\", "two\\", "three", "four", " /five", "six\\")
    assert questions(server) == ["one \ntwo\nthree", "four", " /five", "six"]
    assert paper.prompts == ["> ", ". ", ". ", "> ", "> ", "> ", ". ", "> "]
    assert paper.out.getvalue() == "ok\n" * 4
    assert paper.err.getvalue() == ""
    assert paper.all_well


def test_empty_lines_are_no_questions(server: FakeServer) -> None:
    assert Paper(server, "", "  ", "\\", "").all_well
    assert server.seen == []


def test_commands(server: FakeServer) -> None:
    paper = Paper(server, "/system  Be brief. ", "hi", "/reset", "yes", "/help", "/exit", "never")
    first, second = [seen.json()["messages"] for seen in server.seen]
    system = {"role": "system", "content": "Be brief."}
    assert first == [system, {"role": "user", "content": "hi"}]
    assert second == [system, {"role": "user", "content": "yes"}]
    assert paper.err.getvalue() == (
        f"the system message is set\nthe conversation is forgotten\n{HELP}\n"
    )
    assert paper.all_well
    assert Paper(server, "/system").err.getvalue() == "there is no system message\n"


@pytest.mark.parametrize("line", ["/sys x", "/", "/ x", "/Exit"])
def test_commands_that_are_not_there(server: FakeServer, line: str) -> None:
    paper = Paper(server, line, "hi")
    assert (
        paper.err.getvalue()
        == f"error: there is no command {line.split(' ')[0]}; /help shows all\n"
    )
    assert not paper.all_well
    assert questions(server) == ["hi"]


def test_an_error_ends_no_talk(server: FakeServer) -> None:
    error = {"message": "Full.", "code": "queue_full"}
    server.script = answer(429, {"error": error})
    paper = Paper(server, "a", "b")
    assert not paper.all_well
    assert paper.out.getvalue() == ""
    assert paper.err.getvalue().count("error: Full. [HTTP 429, queue_full] (ask again") == 2
    assert paper.conversation.messages == []


def test_an_empty_answer_is_told(server: FakeServer) -> None:
    server.script = stream(DONE)
    assert "the answer is empty" in Paper(server, "a").err.getvalue()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LLMAPIError(401, "No.", code="invalid_api_key"), "LLM_API_KEY"),
        (LLMAPIError(400, "No.", code="context_length_exceeded"), "shorten the question"),
        (LLMAPIError(504, "No.", code="timeout"), "LLM_TIMEOUT"),
        (LLMConnectionError("No."), "LLM_URL"),
    ],
)
def test_errors_with_the_setting_that_helps(error: LLMError, words: str) -> None:
    assert explained(error).startswith(f"{error} (")
    assert words in explained(error)


@pytest.mark.parametrize("error", [LLMAPIError(400, "No.", code="x"), LLMTimeoutError("No.")])
def test_errors_without_one(error: LLMError) -> None:
    assert explained(error) == str(error)
