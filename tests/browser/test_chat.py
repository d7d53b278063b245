"""A person's conversation, from the page through Node and the server to a real model and back."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.browser.conftest import OpenDashboard
from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import until

STORY = "Tell me a story without an end."


def test_an_answer_streams_in(open_dashboard: OpenDashboard, smollm2_server: RealServer) -> None:
    dashboard = open_dashboard(smollm2_server.url)
    dashboard.wait_for_state("ready")
    dashboard.wait_for_text("#model-id", "SmolLM2-135M-Instruct.Q4_1")

    # Every state of the text, as somebody who looks at it would see it grow.
    dashboard.page.evaluate(
        """() => {
            window.seen = [];
            new MutationObserver(() => {
                const text = document.querySelector(".answer .text")?.textContent;
                if (text && text !== window.seen.at(-1)) window.seen.push(text);
            }).observe(document.getElementById("log"),
                       { subtree: true, childList: true, characterData: true });
        }"""
    )
    # An answer of some length: a page paints a few times while a short one comes, or only once.
    question = "Tell me a long story about a lighthouse."
    answer = dashboard.asked_and_answered(question)
    seen = dashboard.page.evaluate("window.seen")
    assert len(seen) > 3
    assert all(len(later) >= len(earlier) - 8 for earlier, later in itertools.pairwise(seen))

    assert dashboard.questions.last.locator(".text").text_content() == question
    figures = answer.locator(".figures").text_content() or ""
    assert re.search(r"\d+ tokens · \d+\.\d tokens/s · first token after \d+\.\d s$", figures)
    dashboard.wait_for_text("#used", re.compile(r"^\d+ of 2,048 tokens$"))
    assert dashboard.send.is_visible()
    assert dashboard.stop.count() == 0
    assert smollm2_server.health()["active_requests"] == 0


def test_what_was_said_goes_with_the_next_question(
    open_dashboard: OpenDashboard, smollm2_server: RealServer
) -> None:
    dashboard = open_dashboard(smollm2_server.url)
    for i in (1, 2):
        dashboard.asked_and_answered(f"Question number {i}")
    # Three messages were sent, and LLM_MAX_HISTORY is 2: the first turn is left out, and said so.
    note = dashboard.answers.nth(1).locator(".note")
    assert (
        note.text_content() == "The 2 oldest messages were left out: the model no longer saw them."
    )
    assert dashboard.answers.nth(0).locator(".note").count() == 0

    dashboard.page.locator("#new-chat").click()
    dashboard.page.locator("#welcome").wait_for()
    assert dashboard.answers.count() == 0
    dashboard.asked_and_answered("Something new")
    assert dashboard.answers.last.locator(".note").count() == 0
    assert dashboard.entries.all_text_contents() == ["Something new", "Question number 1"]


def test_a_full_context_is_trimmed_and_said(open_dashboard: OpenDashboard) -> None:
    """And a question that is too long by itself can be shortened: no button leads nowhere."""
    with RealServer(models.smollm2(), context_size=512, max_tokens=20, parallel=1) as server:
        server.wait_for_state("ready")
        dashboard = open_dashboard(server.url)
        pasted = "one two three four five six seven eight nine ten " * 30
        for question in (pasted, pasted, "Hello?"):
            dashboard.asked_and_answered(question)
        left_out = "The 2 oldest messages were left out: the model no longer saw them."
        assert dashboard.answers.nth(0).locator(".note").count() == 0
        assert dashboard.answers.nth(1).locator(".note").text_content() == left_out
        assert "left out" in (dashboard.answers.nth(2).locator(".note").text_content() or "")

        dashboard.ask(3 * pasted)
        answer = dashboard.wait_for_outcome("error")
        assert answer.locator(".error code").text_content() == "context_length_exceeded"
        assert "LLM_CONTEXT_SIZE" in (answer.locator(".advice").text_content() or "")
        assert answer.get_by_role("button", name="Try again").count() == 0
        answer.get_by_role("button", name="Edit", exact=True).click()
        editor = dashboard.page.get_by_label("Edit your question")
        assert editor.input_value() == (3 * pasted).strip()
        editor.fill("Hello again?")
        editor.press("Enter")
        dashboard.wait_for_outcome("done")
        assert dashboard.questions.last.locator(".text").text_content() == "Hello again?"


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stopping_frees_the_slot(
    open_dashboard: OpenDashboard, endless_server: RealServer, way: str
) -> None:
    dashboard = open_dashboard(endless_server.url)
    dashboard.ask(STORY)
    dashboard.wait_for_outcome("streaming")
    assert endless_server.health()["active_requests"] == 1
    if way == "button":
        dashboard.stop.click()
    else:
        dashboard.page.keyboard.press("Escape")
    until(lambda: endless_server.health()["active_requests"] == 0)
    answer = dashboard.wait_for_outcome("stopped")
    assert dashboard.answer() != ""
    assert (answer.locator(".figures").text_content() or "").startswith("Stopped · ")
    assert dashboard.page.evaluate("document.activeElement.id") == "question"
    until(lambda: endless_server.log.count("cancelled") == 1)


def test_a_stopped_answer_goes_on(
    open_dashboard: OpenDashboard, endless_server: RealServer
) -> None:
    dashboard = open_dashboard(endless_server.url)
    dashboard.ask(STORY)
    dashboard.wait_for_outcome("streaming")
    dashboard.page.keyboard.press("Escape")
    answer = dashboard.wait_for_outcome("stopped")
    before = dashboard.answer()
    answer.get_by_role("button", name="Continue").click()
    dashboard.wait_for_outcome("streaming")
    until(lambda: len(dashboard.answer()) > len(before) + 20)
    assert dashboard.answers.count() == 1
    dashboard.page.keyboard.press("Escape")
    dashboard.wait_for_outcome("stopped")


def test_several_conversations_are_answered_at_once(
    open_dashboard: OpenDashboard, endless_server: RealServer
) -> None:
    dashboard = open_dashboard(endless_server.url)
    page = dashboard.page
    for i in (1, 2):
        dashboard.ask(f"{STORY} {i}")
        dashboard.wait_for_outcome("streaming")
        page.locator("#new-chat").click()
        page.locator("#welcome").wait_for()
    until(lambda: endless_server.health()["active_requests"] == 2)
    assert page.locator("#sidebar .busy").count() == 2
    for left in (1, 0):
        page.locator("#sidebar .entry:has(.busy) .name").first.click()
        dashboard.wait_for_outcome("streaming")
        page.keyboard.press("Escape")
        dashboard.wait_for_outcome("stopped")
        until(lambda left=left: page.locator("#sidebar .busy").count() == left)  # type: ignore[misc]


def test_a_killed_engine_shows_and_recovers(
    open_dashboard: OpenDashboard, endless_server: RealServer
) -> None:
    dashboard = open_dashboard(endless_server.url)
    dashboard.ask(STORY)
    dashboard.wait_for_outcome("streaming")
    os.kill(endless_server.engine_pid(), signal.SIGKILL)

    answer = dashboard.wait_for_outcome("error")
    before = dashboard.answer()
    assert before != ""  # what had come stays
    assert "SIGKILL" in (answer.locator(".error .message").text_content() or "")
    assert answer.locator(".error code").text_content() == "engine_crashed"

    until(lambda: endless_server.health()["state"] == "ready")
    answer.get_by_role("button", name="Continue").click()
    dashboard.wait_for_outcome("streaming")
    until(lambda: len(dashboard.answer()) > len(before))
    assert dashboard.page.locator(".error").count() == 0
    dashboard.page.keyboard.press("Escape")
    dashboard.wait_for_outcome("stopped")


def test_a_server_that_is_not_there(open_dashboard: OpenDashboard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    dashboard = open_dashboard(url)
    dashboard.wait_for_state("offline")
    dashboard.ask("Is anybody there?")
    answer = dashboard.wait_for_outcome("error")
    message = answer.locator(".message").text_content() or ""
    assert f"{url} cannot be reached (ECONNREFUSED)" in message
    assert answer.locator("code").text_content() == "server_unreachable · HTTP 502"
    assert "LLM_URL" in (answer.locator(".advice").text_content() or "")
    assert dashboard.page.locator("#reason").text_content() == message.strip()


def test_a_missing_model(open_dashboard: OpenDashboard, tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    with RealServer(missing) as server:
        dashboard = open_dashboard(server.url)
        dashboard.wait_for_state("failed")
        dashboard.ask("Hello?")
        answer = dashboard.wait_for_outcome("error")
        reason = server.health()["reason"]
        assert reason.startswith(f"The model {missing} does not exist.")
        assert "fetch smollm2" in reason
        assert (answer.locator(".message").text_content() or "").strip() == reason
        assert answer.locator("code").text_content() == "model_unavailable"
        assert "LLM_MODEL_PATH" in (answer.locator(".advice").text_content() or "")
        assert dashboard.page.locator("#reason").text_content() == reason


def test_a_server_that_goes_away_and_comes_back(
    open_dashboard: OpenDashboard, endless_server: RealServer
) -> None:
    dashboard = open_dashboard(endless_server.url)
    dashboard.wait_for_text("#model-id", "llama3-tiny")
    dashboard.ask(STORY)
    answer = dashboard.wait_for_outcome("streaming")
    endless_server.process.kill()
    answer.get_by_text("The connection was lost").wait_for()
    dashboard.wait_for_state("offline")
    dashboard.wait_for_text("#model-id", "llama3-tiny")  # which it still is
    port = endless_server.url.rsplit(":", 1)[1]
    with RealServer(models.tiny_llama3(), port=port) as again:
        again.wait_for_state("ready")
        # It kept the answer in memory only, and is honest about it.
        answer = dashboard.wait_for_outcome("error")
        assert answer.locator(".error code").text_content() == "answer_lost · HTTP 404"
        assert dashboard.answer() != ""
        answer.get_by_role("button", name="Try again").click()
        dashboard.wait_for_outcome("streaming")
        dashboard.page.keyboard.press("Escape")
        dashboard.wait_for_outcome("stopped")
