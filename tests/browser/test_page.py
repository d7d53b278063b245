"""The chat page by itself: the keyboard, a phone's width, languages, themes, contrast."""

from __future__ import annotations

import threading

import pytest

from tests.browser.conftest import OpenDashboard
from tests.browser.dashboard import Dashboard
from tests.browser.pages import FOCUSED, POOR_CONTRAST, TOO_WIDE
from tests.support import fake_server
from tests.support.scripted_llm import Say, ScriptedLlm
from tests.support.waiting import until

LONG = "a" * 300
USAGE = {
    "usage": {"input_tokens": 2999, "output_tokens": 1, "total_tokens": 3000},
    "sheily": {"dropped_messages": 12},
}
MARKDOWN = (
    "# Title\n\nSome **bold** and `code`.\n\n```python\nprint('a long line', "
    + "'x' * 200, " * 12
    + ")\n```\n\n| a | b |\n|---|---|\n| "
    + "wide " * 60
    + " | 2 |\n\n- one\n- two\n\n> quoted\n\n[a link](https://example.com)\n"
)


def focused(dashboard: Dashboard) -> str:
    return str(dashboard.page.evaluate(FOCUSED))


def wait_for_focus(dashboard: Dashboard, name: str) -> None:
    until(lambda: focused(dashboard) == name, 10, f"for the focus on {name}")


def held() -> Say:
    """An answer that stands behind its first piece until it is stopped."""
    return Say(["Once ", "upon"], hold=threading.Event())


def test_the_keyboard_alone(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url)
    page, keyboard = dashboard.page, dashboard.page.keyboard
    wait_for_focus(dashboard, "question")
    keyboard.type("first line")
    keyboard.press("Shift+Enter")
    keyboard.type("second line")
    assert dashboard.question.input_value() == "first line\nsecond line"
    keyboard.press("Enter")
    dashboard.wait_for_outcome("done")
    assert llm.asked()[0]["input"] == [{"role": "user", "content": "first line\nsecond line"}]
    assert dashboard.question.input_value() == ""
    wait_for_focus(dashboard, "question")

    llm.say = held()
    keyboard.type("more")
    keyboard.press("Enter")
    dashboard.wait_for_outcome("streaming")
    keyboard.press("Tab")
    wait_for_focus(dashboard, "stop")
    keyboard.press("Enter")
    dashboard.wait_for_outcome("stopped")
    wait_for_focus(dashboard, "question")

    keyboard.press("Enter")  # nothing is written, nothing is sent
    assert dashboard.answers.count() == 2

    llm.say = Say(["Edited."])
    keyboard.press("ArrowUp")
    wait_for_focus(dashboard, "Edit your question")
    keyboard.press("Control+A")
    keyboard.type("better")
    keyboard.press("Enter")
    dashboard.wait_for_text(".answer:last-child .text", "Edited.")
    assert llm.asked()[-1]["input"][-1] == {"role": "user", "content": "better"}
    wait_for_focus(dashboard, "question")

    keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    wait_for_focus(dashboard, "question")
    keyboard.type("what?")
    assert dashboard.question.input_value() == "what?"

    keyboard.press("Control+k")
    dashboard.wait_for("document.activeElement.id === 'search'")
    keyboard.type("second line")
    page.locator(".found mark").first.wait_for()
    keyboard.press("Escape")
    wait_for_focus(dashboard, "question")

    keyboard.press("Control+Shift+O")
    page.locator("#welcome").wait_for()
    keyboard.press("Alt+ArrowDown")
    page.locator("#welcome").wait_for(state="detached")
    keyboard.press("Control+,")
    page.get_by_role("dialog").wait_for()
    keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


def test_the_menu_of_a_conversation_by_keyboard(
    open_dashboard: OpenDashboard, llm: ScriptedLlm
) -> None:
    dashboard = open_dashboard(llm.url)
    page, keyboard = dashboard.page, dashboard.page.keyboard
    dashboard.asked_and_answered("To be renamed")
    page.get_by_role("button", name="Actions for “To be renamed”").focus()
    keyboard.press("Enter")
    wait_for_focus(dashboard, "Rename")
    keyboard.press("ArrowUp")
    wait_for_focus(dashboard, "Delete")
    keyboard.press("Escape")
    wait_for_focus(dashboard, "Actions for “To be renamed”")
    keyboard.press("Enter")
    keyboard.press("Enter")
    keyboard.type("Another name")
    keyboard.press("Enter")
    dashboard.wait_for_text("#sidebar .entry .name", "Another name")
    page.get_by_role("button", name="Actions for “Another name”").press("Enter")
    keyboard.press("End")
    keyboard.press("Enter")
    wait_for_focus(dashboard, "Cancel")
    keyboard.press("Tab")
    keyboard.press("Enter")
    page.locator("#welcome").wait_for()
    assert dashboard.entries.count() == 0


def test_the_order_of_the_focus(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url, width=360, height=740)
    dashboard.page.locator(".skip").focus()
    order = [focused(dashboard)]
    while "send" not in order:
        dashboard.page.keyboard.press("Tab")
        order.append(focused(dashboard))
        assert len(order) < 20, order
    ideas = dashboard.page.locator(".idea").all_text_contents()
    expected = ["Skip to the question", "sidebar-button", "settings-button", "log", *ideas]
    assert order == [*expected, "attach", "question", "send"]

    dashboard.page.locator(".skip").focus()
    dashboard.page.keyboard.press("Enter")
    wait_for_focus(dashboard, "question")

    dashboard.page.locator(".idea").first.focus()
    dashboard.page.keyboard.press("Enter")
    wait_for_focus(dashboard, "question")
    assert dashboard.question.input_value() == ideas[0]


def test_language_and_theme_are_remembered(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url, color_scheme="light")
    page = dashboard.page
    dashboard.asked_and_answered("hello")
    assert page.locator("html").get_attribute("lang") == "en"
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#settings-button").click()
    page.locator("#language").select_option("es")
    page.locator("#theme").select_option("dark")
    page.keyboard.press("Escape")
    dashboard.wait_for_text("#state-text", "Listo")
    assert dashboard.answer() == "Hello."
    page.reload()
    dashboard.question.wait_for()
    assert page.locator("html").get_attribute("lang") == "es"
    assert page.locator("#new-chat").text_content() == "Nuevo chat"
    assert page.get_by_label("Tu pregunta").get_attribute("id") == "question"
    assert page.evaluate(ground) != light


def test_a_spanish_browser_gets_spanish(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url, locale="es-MX")
    assert dashboard.page.get_by_role("button", name="Enviar").is_visible()


@pytest.mark.parametrize("locale", ["en", "es"])
@pytest.mark.parametrize("width", [320, 360, 800, 1200])
def test_nothing_scrolls_sideways(
    open_dashboard: OpenDashboard, llm: ScriptedLlm, width: int, locale: str
) -> None:
    dashboard = open_dashboard(llm.url, width=width, height=740, locale=locale)
    page = dashboard.page
    dashboard.wait_for_state("ready")
    assert page.evaluate(TOO_WIDE) == []
    llm.health["model"] = LONG
    llm.say = Say([LONG, "\n\n", MARKDOWN], fields=USAGE)
    dashboard.asked_and_answered(LONG)
    assert page.evaluate(TOO_WIDE) == []
    error = {"error": {"message": LONG, "code": "a_very_long_code_" * 4}}
    llm.refuse = fake_server.answer(500, error, Retry_After="2")
    llm.status = 503
    llm.health |= {"state": "restarting", "progress": 0.5, "reason": LONG}
    dashboard.ask("short")
    dashboard.wait_for_outcome("error")
    dashboard.wait_for_state("restarting")
    assert page.evaluate(TOO_WIDE) == []
    page.locator("#settings-button").click()
    page.get_by_role("dialog").wait_for()
    assert page.evaluate(TOO_WIDE) == []
    page.keyboard.press("Escape")
    if width < 800:
        page.locator("#sidebar-button").click()
        page.locator("#sidebar .entry").wait_for()
        assert page.evaluate(TOO_WIDE) == []
        page.locator("#keys-button").click()
        page.get_by_role("dialog").wait_for()
        assert page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_contrast_and_a_screen_reader_s_tree(
    open_dashboard: OpenDashboard, llm: ScriptedLlm, scheme: str, width: int
) -> None:
    dashboard = open_dashboard(llm.url, color_scheme=scheme, width=width)
    page = dashboard.page
    dashboard.wait_for_state("ready")

    def check() -> None:
        assert page.evaluate(POOR_CONTRAST) == []
        assert dashboard.violations() == []

    check()
    llm.say = Say([MARKDOWN], fields=USAGE)
    dashboard.asked_and_answered("first")
    check()
    llm.say = held()
    llm.health |= {"state": "loading", "progress": 0.5}
    dashboard.ask("second")
    dashboard.wait_for_outcome("streaming")
    dashboard.wait_for_state("loading")
    check()
    page.keyboard.press("Escape")
    dashboard.wait_for_outcome("stopped")
    error = {"error": {"message": "No.", "code": "no"}}
    llm.refuse = fake_server.answer(500, error)
    llm.status = 503
    llm.health |= {"state": "failed", "reason": "Because."}
    dashboard.ask("third")
    dashboard.wait_for_outcome("error")
    dashboard.wait_for_state("failed")
    check()
    if width < 800:
        page.locator("#sidebar-button").click()
        page.locator("#sidebar .entry").wait_for()
        check()
    page.locator("#sidebar .menu button").first.click()
    page.get_by_role("menuitem").first.wait_for()
    check()
    page.keyboard.press("Escape")
    page.locator("#keys-button").click()
    page.get_by_role("dialog").wait_for()
    check()
    page.keyboard.press("Escape")
    if width < 800:
        page.keyboard.press("Escape")
    page.locator("#settings-button").click()
    page.get_by_role("dialog").wait_for()
    check()


def test_a_screen_reader_is_told(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    dashboard = open_dashboard(llm.url)
    page = dashboard.page
    assert page.get_by_role("log").get_attribute("aria-label") == "Conversation"
    llm.say = held()
    dashboard.ask("hello")
    answer = dashboard.wait_for_outcome("streaming")
    assert answer.get_attribute("aria-busy") == "true"
    page.keyboard.press("Escape")
    stopped = dashboard.wait_for_outcome("stopped")
    assert stopped.get_attribute("aria-busy") == "false"
    llm.refuse = fake_server.answer(400, {"error": {"message": "No.", "code": "no"}})
    dashboard.ask("again")
    dashboard.wait_for_outcome("error")
    assert "No." in (page.get_by_role("alert").last.text_content() or "")


def test_somebody_who_reads_above_is_left_there(
    open_dashboard: OpenDashboard, llm: ScriptedLlm
) -> None:
    lines = [f"line {i}\n\n" for i in range(120)]
    llm.say = Say(lines)
    dashboard = open_dashboard(llm.url)
    dashboard.asked_and_answered("hello")
    page = dashboard.page
    position = "[log.scrollTop, log.scrollHeight - log.clientHeight]"
    dashboard.wait_for("log.scrollTop > 0")
    dashboard.wait_for("log.scrollTop >= log.scrollHeight - log.clientHeight - 2")

    moved = threading.Event()
    llm.say = Say(["Once ", *lines], hold=moved)
    dashboard.ask("more")
    dashboard.wait_for_outcome("streaming")
    page.evaluate("log.scrollTop = 100")
    page.get_by_role("button", name="Jump to the newest message").wait_for()
    moved.set()
    dashboard.wait_for_outcome("done")
    assert page.evaluate(position)[0] == 100
    page.get_by_role("button", name="Jump to the newest message").click()
    dashboard.wait_for("log.scrollTop >= log.scrollHeight - log.clientHeight - 2")
