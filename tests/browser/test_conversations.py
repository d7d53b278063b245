"""What people do with conversations: versions, settings, search, files, documents, windows."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.browser.conftest import FOREIGN_HOST, OpenDashboard
from tests.support.scripted_llm import Say, ScriptedLlm
from tests.support.waiting import until


def test_versions_of_answers_and_questions(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url)
    page = dashboard.page
    llm.say = Say(["first"])
    dashboard.asked_and_answered("one")
    llm.say = Say(["second"])
    page.get_by_role("button", name="Ask again").click()
    dashboard.wait_for_text(".answer .text", "second")
    assert dashboard.answers.count() == 1
    assert page.locator(".answer .versions").inner_text().strip() == "2 of 2"
    llm.say = Say(["more"])
    dashboard.asked_and_answered("two")
    assert [item["content"] for item in llm.asked()[-1]["input"]] == ["one", "second", "two"]

    page.locator(".answer").first.get_by_role("button", name="Previous version").click()
    dashboard.wait_for_text(".answer:last-child .text", "first")
    assert dashboard.answers.count() == 1
    page.locator(".answer").first.get_by_role("button", name="Next version").click()
    dashboard.wait_for_text(".answer:last-child .text", "more")

    page.locator(".asked").first.get_by_role("button", name="Edit").click()
    editor = page.get_by_label("Edit your question")
    assert editor.input_value() == "one"
    llm.say = Say(["third"])
    editor.fill("uno")
    page.locator(".editor").get_by_role("button", name="Send").click()
    dashboard.wait_for_text(".answer:last-child .text", "third")
    assert [item["content"] for item in llm.asked()[-1]["input"]] == ["uno"]
    assert page.locator(".asked .versions").inner_text().strip() == "2 of 2"
    page.locator(".asked").get_by_role("button", name="Previous version").click()
    dashboard.wait_for_text(".answer:last-child .text", "more")

    page.reload()  # all of it is kept
    dashboard.wait_for_text(".answer:last-child .text", "more")
    assert page.locator(".asked .versions").first.inner_text().strip() == "1 of 2"


def test_settings_are_sent_and_kept(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url)
    page = dashboard.page
    dashboard.asked_and_answered("plain")
    plain = {"input", "truncation", "background", "store", "stream", "return_progress", "user"}
    assert set(llm.asked()[-1]) == plain

    page.locator("#settings-button").click()
    page.locator("#system").fill("Be short.")
    page.locator("#preset").select_option(label="Precise")
    until(lambda: page.locator("#option-temperature").input_value() == "0.2")
    page.locator("#option-max_output_tokens").fill("many")
    wrong = page.locator("#help-max_output_tokens")
    until(lambda: "whole number from 1 to" in wrong.inner_text())
    assert page.locator("#option-max_output_tokens").get_attribute("aria-invalid") == "true"
    page.locator("#option-max_output_tokens").fill("50")
    page.locator("#option-temperature").fill("0,35")
    page.get_by_role("button", name="Save as preset…").click()
    page.get_by_label("Name of the preset").fill("Mine")
    page.get_by_role("button", name="Save", exact=True).click()
    until(lambda: page.locator("#preset").input_value() == "own Mine")
    page.keyboard.press("Escape")
    dashboard.asked_and_answered("with settings")
    sent = {name: value for name, value in llm.asked()[-1].items() if name not in plain}
    assert sent == {
        "instructions": "Be short.",
        "temperature": 0.35,
        "top_p": 0.9,
        "max_output_tokens": 50,
    }

    page.locator("#new-chat").click()  # they are this conversation's alone
    dashboard.asked_and_answered("new")
    assert set(llm.asked()[-1]) == plain
    page.locator("#settings-button").click()
    page.locator("#preset").select_option(label="Mine")
    page.locator("#for-new").check()
    page.keyboard.press("Escape")
    page.reload()
    dashboard.question.wait_for()
    page.locator("#new-chat").click()
    page.locator("#welcome").wait_for()
    dashboard.asked_and_answered("newer")
    assert llm.asked()[-1]["temperature"] == 0.35
    assert "instructions" not in llm.asked()[-1]


def test_search_finds_titles_and_texts(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url)
    page = dashboard.page
    for question, answer in [("A LEÓN in the title", "x"), ("Another", "there is a leon here")]:
        llm.say = Say([answer])
        dashboard.asked_and_answered(question)
        page.locator("#new-chat").click()
        page.locator("#welcome").wait_for()
    page.locator("#search").fill("león")
    until(lambda: page.locator(".found .entry").count() == 3)  # the question has its title's words
    assert set(page.locator(".found mark").all_inner_texts()) == {"LEÓN", "leon"}
    page.locator(".found .entry a", has_text="there is a").click()
    dashboard.wait_for_text(".title", "Another")
    page.locator("#search").fill("no such words")
    page.get_by_text("Nothing found").first.wait_for()


def test_conversations_leave_and_come_back(
    open_dashboard: OpenDashboard, llm: ScriptedLlm, tmp_path: Path
) -> None:
    dashboard = open_dashboard(llm.url)
    page = dashboard.page
    llm.say = Say(["An **answer**."])
    dashboard.asked_and_answered("To be kept")
    page.get_by_role("button", name="Actions for “To be kept”").click()
    with page.expect_download() as markdown:
        page.get_by_role("menuitem", name="Export as Markdown").click()
    assert markdown.value.suggested_filename == "To-be-kept.md"
    markdown.value.save_as(tmp_path / "one.md")
    assert "An **answer**." in (tmp_path / "one.md").read_text("utf-8")
    page.locator("#settings-button").click()
    with page.expect_download() as everything:
        page.locator("#export-all").click()
    everything.value.save_as(tmp_path / "all.json")
    page.locator("#remove-all").click()
    page.locator("#remove").click()
    page.locator("#welcome").wait_for()
    until(lambda: dashboard.entries.count() == 0)

    page.locator("#settings-button").click()
    page.locator("#import-file").set_input_files(tmp_path / "all.json")
    page.get_by_text("1 conversation imported.").wait_for()
    dashboard.entries.first.click()
    dashboard.wait_for_text(".answer .text", "An answer.")
    dashboard.asked_and_answered("and on")
    assert [item["content"] for item in llm.asked()[-1]["input"]] == [
        "To be kept",
        "An **answer**.",
        "and on",
    ]
    (tmp_path / "bad.json").write_text("not JSON")
    page.locator("#settings-button").click()
    page.locator("#import-file").set_input_files(tmp_path / "bad.json")
    page.get_by_text("bad.json: The file is not JSON.").wait_for()


def test_a_document_goes_with_the_question(
    open_dashboard: OpenDashboard, llm: ScriptedLlm, tmp_path: Path
) -> None:
    dashboard = open_dashboard(llm.url)
    page = dashboard.page
    dashboard.wait_for_state("ready")
    (tmp_path / "short.md").write_text("The word is **tulip**.")
    (tmp_path / "long.txt").write_text("A line of a long text.\n" * 4000)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    page.locator("#files").set_input_files(
        [tmp_path / name for name in ("short.md", "long.txt", "picture.png")]
    )
    page.get_by_text("picture.png: This kind of file cannot be read.").wait_for()
    until(lambda: page.locator('.attached [data-state="read"]').count() == 2)
    dashboard.asked_and_answered("What is the word?")
    prompt = llm.asked()[-1]["input"][0]["content"]
    assert "The word is **tulip**." in prompt
    assert prompt.endswith("What is the word?")
    assert len(prompt) // 4 < 4096
    listed = page.locator(".asked .documents li").all_inner_texts()
    assert "Only the beginning fits" in listed[1]
    assert "Only the beginning fits" not in listed[0]
    assert dashboard.questions.last.locator(".text").inner_text() == "What is the word?"
    assert page.locator(".attached").count() == 0
    # It is still there for what follows.
    dashboard.asked_and_answered("Say it again.")
    assert "tulip" in llm.asked()[-1]["input"][0]["content"]


def test_two_windows_of_one_browser(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url)
    other = dashboard.page.context.new_page()
    other.goto(dashboard.url)
    other.locator("#welcome").wait_for()
    dashboard.asked_and_answered("seen in both")
    other.locator("#sidebar .entry .name", has_text="seen in both").click()
    other.locator('.answer[data-outcome="done"]').wait_for()

    # An answer that is being made is followed in both; each has it once.
    hold = threading.Event()
    llm.say = Say(["one ", "two ", "three"], hold=hold)
    dashboard.ask("slowly")
    dashboard.wait_for_outcome("streaming")
    other.locator('.answer[data-outcome="streaming"]').wait_for()
    hold.set()
    for page in (dashboard.page, other):
        until(lambda page=page: page.locator(".answer .text").last.inner_text() == "one two three")  # type: ignore[misc]
    assert len(llm.keys) == 2


def test_back_and_forward(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url)
    page = dashboard.page
    for question in ("first", "second"):
        page.locator("#new-chat").click()
        page.locator("#welcome").wait_for()
        dashboard.asked_and_answered(question)
    page.go_back()
    page.locator("#welcome").wait_for()
    page.go_back()
    dashboard.wait_for_text(".asked .text", "first")
    page.go_forward()
    page.go_forward()
    dashboard.wait_for_text(".asked .text", "second")


def test_copying_without_a_secure_context(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    """As over plain HTTP in a LAN."""
    llm.say = Say(["Say:\n\n```js\nlet a = 1;\n```\n"])
    dashboard = open_dashboard(llm.url, {"DASHBOARD_ALLOWED_HOSTS": FOREIGN_HOST})
    page = dashboard.page
    port = dashboard.url.rsplit(":", 1)[1]
    page.goto(f"http://{FOREIGN_HOST}:{port}")
    dashboard.question.wait_for()
    assert page.evaluate("isSecureContext") is False
    dashboard.asked_and_answered("code")

    def pasted() -> str:
        dashboard.question.fill("")
        dashboard.question.press("Control+V")
        return dashboard.question.input_value()

    page.locator(".code .copy").click()
    until(lambda: page.locator(".code .copy").inner_text() == "Copied")
    assert pasted() == "let a = 1;"
    page.locator(".answer .actions .copy").click()
    until(lambda: pasted().startswith("Say:"))


def test_a_browser_that_keeps_nothing(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url)
    page = dashboard.page
    page.context.add_init_script(
        "delete window.indexedDB;Object.defineProperty(window, 'indexedDB', { value: undefined });"
    )
    page.reload()
    page.locator("#not-kept").wait_for()
    dashboard.asked_and_answered("still works")
    assert dashboard.entries.count() == 1


@pytest.mark.parametrize("n", [10_000])
def test_a_very_long_conversation(
    open_dashboard: OpenDashboard, llm: ScriptedLlm, tmp_path: Path, n: int
) -> None:
    """It opens at its end, has earlier messages as one scrolls up to them, and answers."""
    messages = [
        {
            "id": f"m{i}",
            "parent": f"m{i - 1}" if i else None,
            "role": "assistant" if i % 2 else "user",
            "created": 1_700_000_000_000 + i,
            "text": f"Message number {i}, with **some** text and `code` in it.\n\n- one\n- two",
        }
        for i in range(n)
    ]
    conversation = {
        "title": "Very long",
        "created": 1_700_000_000_000,
        "updated": 1_700_000_000_000 + n,
        "leaf": f"m{n - 1}",
        "messages": messages,
    }
    body = {"format": "sheily-conversations", "version": 1, "conversations": [conversation]}
    (tmp_path / "long.json").write_text(json.dumps(body))
    dashboard = open_dashboard(llm.url)
    page = dashboard.page
    page.locator("#settings-button").click()
    page.locator("#import-file").set_input_files(tmp_path / "long.json")
    page.get_by_text("1 conversation imported.").wait_for()
    dashboard.entries.first.click()
    page.get_by_text(f"Message number {n - 1},").wait_for()
    shown = page.locator(".asked, .answer").count()
    assert shown <= 40
    until(lambda: page.evaluate("log.scrollTop >= log.scrollHeight - log.clientHeight - 2"))
    page.evaluate("log.scrollTop = 0")
    until(lambda: page.locator(".asked, .answer").count() > shown)
    # What was read stays where it was.
    assert page.evaluate("log.scrollTop") > 0
    page.get_by_role("button", name="Jump to the newest message").click()
    dashboard.ask("and now?")
    dashboard.wait_for_text(".answer:last-child .text", "Hello.")
    assert 900 < len(llm.asked()[-1]["input"]) <= 1000
    page.locator("#search").fill(f"number {n - 4},")
    until(lambda: page.locator(".found mark").count() == 1)
