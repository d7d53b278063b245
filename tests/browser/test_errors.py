"""What the chat page says when something is wrong, and the way out of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.browser.conftest import OpenDashboard
from tests.browser.pages import TOO_WIDE
from tests.support import fake_server
from tests.support.scripted_llm import Say, ScriptedLlm


def refusal(status: int, code: str, message: str = "No.") -> fake_server.Script:
    return fake_server.answer(status, {"error": {"message": message, "code": code}})


@pytest.mark.parametrize(
    ("status", "code", "words", "button"),
    [
        (401, "invalid_api_key", "Start this dashboard with LLM_API_KEY", "Try again"),
        (413, "request_too_large", "Shorten it.", "Edit"),
        (400, "context_length_exceeded", "larger LLM_CONTEXT_SIZE", "Edit"),
        (429, "queue_full", "LLM_QUEUE", "Try again"),
        (500, "model_unavailable", "LLM_MODEL_PATH", "Try again"),
        (500, "engine_error", "", "Try again"),
    ],
)
def test_an_error_has_a_way_out(
    open_dashboard: OpenDashboard,
    llm: ScriptedLlm,
    status: int,
    code: str,
    words: str,
    button: str,
) -> None:
    llm.refuse = refusal(status, code)
    dashboard = open_dashboard(llm.url)
    dashboard.ask("a question")
    answer = dashboard.wait_for_outcome("error")
    advice = answer.locator(".advice")
    assert words in (advice.text_content() if advice.count() else "")  # type: ignore[operator]
    assert advice.count() == bool(words)
    assert answer.get_by_role("button").all_inner_texts() == [button]
    llm.refuse = None
    answer.get_by_role("button").click()
    if button == "Edit":
        editor = dashboard.page.get_by_label("Edit your question")
        assert editor.input_value() == "a question"
        editor.fill("shorter")
        editor.press("Enter")
    dashboard.wait_for_outcome("done")
    assert dashboard.answer() == "Hello."
    # What was refused is not sent again with the next question.
    dashboard.asked_and_answered("more")
    asked = [item["content"] for item in llm.asked()[-1]["input"]]
    first = "shorter" if button == "Edit" else "a question"
    assert asked == [first, "Hello.", "more"]


def test_errors_are_worded_in_spanish_where_they_are_known(
    open_dashboard: OpenDashboard, llm: ScriptedLlm
) -> None:
    dashboard = open_dashboard(llm.url, width=360, height=740, locale="es")
    llm.refuse = refusal(429, "queue_full", "64 requests wait already.")
    dashboard.ask("hola")
    answer = dashboard.wait_for_outcome("error")
    message = answer.locator(".message")
    assert message.inner_text() == "El servidor está ocupado y su cola está llena."
    assert message.get_attribute("lang") == "es"
    original = answer.get_by_text("64 requests wait already.")
    assert not original.is_visible()
    answer.get_by_text("Mensaje original, en inglés").click()
    assert original.is_visible()
    assert dashboard.page.evaluate(TOO_WIDE) == []


def test_a_model_that_is_being_loaded_is_waited_for(
    open_dashboard: OpenDashboard, llm: ScriptedLlm
) -> None:
    llm.refuse = refusal(503, "loading", "The model is being loaded (42 %).")
    llm.status = 503
    llm.health |= {"state": "loading", "progress": 0.42}
    dashboard = open_dashboard(llm.url)
    dashboard.wait_for_text("#state-text", "Loading the model 42 %")
    dashboard.ask("Hello?")
    dashboard.page.get_by_text("Waiting for the model to be loaded…").wait_for()
    llm.refuse = None
    llm.status = 200
    llm.health |= {"state": "ready", "progress": None}
    dashboard.wait_for_outcome("done")
    assert dashboard.answer() == "Hello."
    dashboard.wait_for_text("#state-text", "Ready")


@pytest.mark.parametrize(
    ("language", "asleep", "waking"),
    [
        ("en-GB", "Asleep; a question wakes it", "Waking 42 %"),
        ("es-ES", "En reposo; una pregunta lo despierta", "Despertando 42 %"),
    ],
)
def test_a_model_that_sleeps_is_fine(
    open_dashboard: OpenDashboard, llm: ScriptedLlm, language: str, asleep: str, waking: str
) -> None:
    llm.health |= {"state": "sleeping", "progress": None}
    dashboard = open_dashboard(llm.url, locale=language)
    dashboard.wait_for_text("#state-text", asleep)
    colour = "getComputedStyle(document.querySelector('.state')).color"
    calm = dashboard.page.evaluate(colour)
    assert dashboard.page.locator("#reason, .notice.bad").count() == 0
    llm.health |= {"state": "waking", "progress": 0.42}
    dashboard.asked_and_answered("Hello?")
    assert dashboard.answer() == "Hello."
    dashboard.wait_for_text("#state-text", waking)
    llm.health |= {"state": "ready", "progress": None}
    dashboard.wait_for_state("ready")
    assert dashboard.page.evaluate(colour) == calm


def test_what_it_waits_for_is_said(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    places: list[dict[str, Any]] = [
        {"queue_place": place, "total": 90, "cache": 0, "processed": 0} for place in (3, 1)
    ]
    read = {"queue_place": None, "total": 90, "cache": 10, "processed": 45}
    said = ["Place 3 in the queue…", "Next in the queue…", "Reading the conversation… 50 %"]
    dashboard = open_dashboard(llm.url)
    for words, progress in zip(said, [*places, read], strict=True):
        llm.say = Say(["Hello."], hold=threading.Event(), hold_at=0, progress=[progress])
        dashboard.ask("hello")
        dashboard.page.get_by_text(words).wait_for()
        assert dashboard.page.get_by_role("progressbar").count() == (words is said[2])
        dashboard.page.keyboard.press("Escape")
        dashboard.wait_for_outcome("stopped")


@pytest.mark.parametrize("reason", ["length", "timed_out"])
def test_an_answer_cut_short_says_so(
    open_dashboard: OpenDashboard, llm: ScriptedLlm, reason: str
) -> None:
    llm.say = Say(
        ["one", " two"],
        status="incomplete",
        fields={
            "timings": {"predicted_per_second": 12.34},
            "sheily": {"timed_out": reason == "timed_out"},
        },
    )
    dashboard = open_dashboard(llm.url)
    answer = dashboard.asked_and_answered("count")
    cut = {
        "length": "Cut off at the longest answer allowed",
        "timed_out": "Cut off: the time limit of the server passed",
    }
    figures = answer.locator(".figures").text_content() or ""
    assert figures.startswith(f"{cut[reason]} · 2 tokens · 12.3 tokens/s")
    llm.say = Say([" three"])
    answer.get_by_role("button", name="Continue").click()
    dashboard.wait_for_text(".answer .text", "one two three")
    assert llm.asked()[-1]["continue_final_message"] is True
    assert llm.asked()[-1]["input"][-1] == {"role": "assistant", "content": "one two"}


def test_a_failed_answer_keeps_what_came(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    error = {"message": "The engine ended (SIGKILL)."}
    llm.say = Say(
        ["half"], status="failed", error=error, fields={"sheily": {"error_code": "engine_crashed"}}
    )
    dashboard = open_dashboard(llm.url)
    dashboard.ask("hello")
    answer = dashboard.wait_for_outcome("error")
    assert dashboard.answer() == "half"
    assert answer.locator(".error code").text_content() == "engine_crashed"
    assert "The engine ended (SIGKILL)." in (answer.locator(".message").text_content() or "")


def test_text_of_others_is_never_html(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    evil = "<img src=x onerror='window.hit = 1'><script>window.hit = 1</script><b>bold</b>"
    llm.health["model"] = evil
    llm.say = Say([evil], status="failed", error={"message": "<b>bold</b>"})
    dashboard = open_dashboard(llm.url)
    dashboard.ask(evil)
    answer = dashboard.wait_for_outcome("error")
    assert dashboard.answer() == evil
    assert dashboard.questions.last.locator(".text").text_content() == evil
    assert (answer.locator(".message").text_content() or "").strip() == "<b>bold</b>"
    dashboard.wait_for_text("#model-id", evil)
    dashboard.wait_for_text(".title", re_of(evil))
    assert dashboard.page.locator("b, i, .answer img, .answer script").count() == 0
    assert dashboard.page.evaluate("window.hit") is None


def re_of(text: str) -> str:
    """How the list and the title have a long text: cut, and on one line."""
    return text[:59].rsplit(" ", 1)[0] + "…" if len(text) > 60 else text
