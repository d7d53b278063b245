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


def test_an_answer_streams_in(open_dashboard: OpenDashboard, smollm2_server: RealServer) -> None:
    dashboard = open_dashboard(smollm2_server.url)
    dashboard.wait_for_state("ready")
    dashboard.wait_for_fact("model-id", "SmolLM2-135M-Instruct.Q4_1")
    dashboard.wait_for_fact("context-size", "2,048 tokens")

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
    dashboard.ask(question)
    turn = dashboard.wait_for_outcome("done")
    seen = dashboard.page.evaluate("window.seen")
    assert len(seen) > 3
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(seen))
    assert seen[-1] == dashboard.answer()

    assert turn.locator(".asked .text").text_content() == question
    figures = turn.locator(".figures").text_content() or ""
    assert re.search(r"\d+ tokens · \d+\.\d tokens/s$", figures), figures
    dashboard.wait_for_fact("last-speed", re.compile(r"^\d+\.\d tokens/s$"))
    dashboard.wait_for_fact("last-prompt", re.compile(r"^\d+, \d+ cached$"))
    dashboard.wait_for_fact("last-used", re.compile(r"^\d+ of 2,048$"))
    assert dashboard.send.is_visible()
    assert not dashboard.stop.is_visible()


def test_what_was_said_goes_with_the_next_question(
    open_dashboard: OpenDashboard, smollm2_server: RealServer
) -> None:
    dashboard = open_dashboard(smollm2_server.url)
    for i in (1, 2):
        dashboard.ask(f"Question number {i}")
        dashboard.page.locator(f'.turn:nth-of-type({i})[data-outcome="done"]').wait_for()
    # Three messages were sent, and LLM_MAX_HISTORY is 2: the first turn is left out, and said so.
    note = dashboard.turns.nth(1).locator(".note")
    assert (
        note.text_content() == "The 2 oldest messages were left out: the model no longer saw them."
    )
    assert not dashboard.turns.nth(0).locator(".note").is_visible()

    dashboard.page.locator("#new-chat").click()
    assert dashboard.turns.count() == 0
    assert dashboard.page.locator("#welcome").is_visible()
    dashboard.ask("Something new")
    dashboard.wait_for_outcome("done")
    assert not dashboard.turns.last.locator(".note").is_visible()


def test_a_full_context_is_trimmed_and_said(open_dashboard: OpenDashboard) -> None:
    """And a question that is too long by itself can be shortened: no button leads nowhere."""
    with RealServer(models.smollm2(), context_size=512, max_tokens=20, parallel=1) as server:
        server.wait_for_state("ready")
        dashboard = open_dashboard(server.url)
        pasted = "one two three four five six seven eight nine ten " * 30
        for question in (pasted, pasted, "Hello?"):
            dashboard.ask(question)
            dashboard.wait_for_outcome("done")
        notes = [turn.locator(".note").text_content() for turn in dashboard.turns.all()]
        left_out = "The 2 oldest messages were left out: the model no longer saw them."
        assert notes[:2] == ["", left_out]
        assert "oldest messages were left out" in (notes[2] or "")

        dashboard.ask(3 * pasted)
        turn = dashboard.wait_for_outcome("error")
        assert turn.locator("code").text_content() == "context_length_exceeded · HTTP 400"
        assert "LLM_CONTEXT_SIZE" in (turn.locator(".advice").text_content() or "")
        assert turn.get_by_role("button", name="Try again").count() == 0
        turn.get_by_role("button", name="Edit the question").click()
        assert dashboard.turns.count() == 3
        assert dashboard.question.input_value() == (3 * pasted).strip()
        assert dashboard.page.evaluate("document.activeElement.id") == "question"
        dashboard.ask("Hello again?")
        dashboard.wait_for_outcome("done")
        assert dashboard.turns.count() == 4


@pytest.mark.parametrize("way", ["button", "escape", "new chat", "page closed"])
def test_stopping_frees_the_slot(
    open_dashboard: OpenDashboard, endless_server: RealServer, way: str
) -> None:
    dashboard = open_dashboard(endless_server.url)
    dashboard.ask("Tell me a story without an end.")
    dashboard.wait_for_outcome("streaming")
    assert endless_server.health()["active_requests"] == 1
    if way == "button":
        dashboard.stop.click()
    elif way == "escape":
        dashboard.page.keyboard.press("Escape")
    elif way == "new chat":
        dashboard.page.locator("#new-chat").click()
    else:
        dashboard.page.close()
    until(lambda: endless_server.health()["active_requests"] == 0, 5)
    # It did not end by itself; the line is written behind the slot, and read on another thread.
    until(lambda: "client gone" in endless_server.log, 5)
    if way in ("button", "escape"):
        turn = dashboard.wait_for_outcome("stopped")
        assert dashboard.answer() != ""
        assert (turn.locator(".figures").text_content() or "").startswith("Stopped · ")
        dashboard.wait_for_fact("last-prompt", re.compile(r"^\d+, \d+ cached$"))
        dashboard.wait_for_fact("last-used", re.compile(r"^\d+ of 16,384$"))
        dashboard.wait_for_fact("active", "0 of 2")
        assert dashboard.page.evaluate("document.activeElement.id") == "question"


def test_a_killed_engine_shows_and_recovers(
    open_dashboard: OpenDashboard, endless_server: RealServer
) -> None:
    dashboard = open_dashboard(endless_server.url)
    dashboard.ask("Tell me a story without an end.")
    dashboard.wait_for_outcome("streaming")
    os.kill(endless_server.engine_pid(), signal.SIGKILL)

    turn = dashboard.wait_for_outcome("error")
    assert dashboard.answer() != ""  # what had come stays
    assert "SIGKILL" in (turn.locator(".message").text_content() or "")
    assert turn.locator("code").text_content() == "engine_crashed"

    # In this order: until the page hears of the restart, it shows the state before it, "ready".
    dashboard.page.locator("#restarts", has_text="1").wait_for()
    dashboard.wait_for_state("ready")
    turn.get_by_role("button", name="Try again").click()
    dashboard.wait_for_outcome("streaming")
    assert dashboard.turns.count() == 1
    assert not dashboard.page.locator(".error").is_visible()
    dashboard.page.keyboard.press("Escape")
    dashboard.wait_for_outcome("stopped")


def test_a_server_that_is_not_there(open_dashboard: OpenDashboard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    dashboard = open_dashboard(url)
    dashboard.wait_for_state("offline")
    dashboard.ask("Is anybody there?")
    turn = dashboard.wait_for_outcome("error")
    message = turn.locator(".message").text_content() or ""
    assert f"{url} cannot be reached (ECONNREFUSED)" in message
    assert turn.locator("code").text_content() == "server_unreachable · HTTP 502"
    assert dashboard.page.locator("#reason").text_content() == message


def test_a_missing_model(open_dashboard: OpenDashboard, tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    with RealServer(missing) as server:
        dashboard = open_dashboard(server.url)
        dashboard.wait_for_state("failed")
        dashboard.ask("Hello?")
        turn = dashboard.wait_for_outcome("error")
        reason = server.health()["reason"]
        assert reason.startswith(f"The model {missing} does not exist.")
        assert "fetch smollm2" in reason
        assert turn.locator(".message").text_content() == reason
        assert turn.locator("code").text_content() == "model_unavailable · HTTP 500"
        assert dashboard.page.locator("#reason").text_content() == reason


def test_a_server_that_goes_away_and_comes_back(
    open_dashboard: OpenDashboard, endless_server: RealServer
) -> None:
    dashboard = open_dashboard(endless_server.url)
    dashboard.wait_for_fact("model-id", "llama3-tiny")
    dashboard.ask("Tell me a story without an end.")
    dashboard.wait_for_outcome("streaming")
    endless_server.process.kill()
    turn = dashboard.wait_for_outcome("error")
    assert turn.locator("code").text_content() == "stream_interrupted"
    dashboard.wait_for_state("offline")
    dashboard.wait_for_fact("model-id", "llama3-tiny")  # which it still is
    port = endless_server.url.rsplit(":", 1)[1]
    with RealServer(models.tiny_llama3(), port=port) as again:
        again.wait_for_state("ready")
        dashboard.wait_for_state("ready")
        turn.get_by_role("button", name="Try again").click()
        dashboard.wait_for_outcome("streaming")
        dashboard.page.keyboard.press("Escape")
        dashboard.wait_for_outcome("stopped")
