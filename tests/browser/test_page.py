"""The page by itself: the keyboard, a phone's width, languages, contrast, text that is no HTML."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.browser.conftest import OpenDashboard
from tests.browser.dashboard import Dashboard
from tests.support import fake_server
from tests.support.fake_server import DONE, FakeServer, event

HEALTH = {
    "state": "ready",
    "model": "a-model",
    "context_size": 4096,
    "reason": None,
    "progress": None,
    "parallel": 4,
    "active_requests": 0,
    "engine_restarts": 0,
}
LONG = "a" * 300
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 3000}}\n\n'  # noqa: E501

# Text elements whose contrast with what is behind them is below WCAG's 4.5, as "text: ratio".
POOR_CONTRAST = """() => {
    const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b]
        .map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const colour = rgba(getComputedStyle(node).backgroundColor);
            if (colour[3] === undefined || colour[3] === 1) return colour;
        }
    };
    const poor = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || !node.checkVisibility()) continue;
        const [a, b] = [luminance(rgba(getComputedStyle(node).color)), luminance(ground(node))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) poor.push(`${node.textContent}: ${ratio.toFixed(2)}`);
    }
    return poor;
}"""

# Elements that stick out of the window at the right, and the width that the page wants.
TOO_WIDE = """() => [
    ...[...document.querySelectorAll("body *")]
        .filter((node) => node.checkVisibility() && node.getBoundingClientRect().right > innerWidth)
        .map((node) => node.outerHTML.slice(0, 80)),
    ...(document.scrollingElement.scrollWidth > innerWidth ? ["the page scrolls"] : []),
    ...(log.scrollWidth > log.clientWidth ? ["the conversation scrolls"] : []),
]"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A scripted LLM server, ready; `say` sets what it answers."""
    with fake_server.running() as server:
        say(server, fake_server.stream(event("Hello."), DONE))
        yield server


def say(server: FakeServer, chat: fake_server.Script, status: int = 200, **health: object) -> None:
    """What the scripted server answers to a question, and its health."""

    def script(handler: fake_server.Handler) -> None:
        if handler.path == "/health":
            fake_server.answer(status, HEALTH | health)(handler)
        else:
            chat(handler)

    server.script = script


def wait_forever(handler: fake_server.Handler) -> None:
    handler.events(event("Once"))
    handler.wait_for_hangup()


def focused(dashboard: Dashboard) -> str:
    """The id, or else the text, of what has the focus; it has to be seen that it has."""
    return str(
        dashboard.page.evaluate(
            """() => {
                const node = document.activeElement;
                const shown = (n) => getComputedStyle(n).outlineStyle !== "none";
                const seen = shown(node) || shown(node.closest(".field") ?? node);
                return (seen ? "" : "unseen: ") + (node.id || node.textContent);
            }"""
        )
    )


def test_the_keyboard_alone(open_dashboard: OpenDashboard, server: FakeServer) -> None:
    dashboard = open_dashboard(server.url)
    keyboard = dashboard.page.keyboard
    assert focused(dashboard) == "question"
    keyboard.type("first line")
    keyboard.press("Shift+Enter")
    keyboard.type("second line")
    assert dashboard.question.input_value() == "first line\nsecond line"
    keyboard.press("Enter")
    dashboard.wait_for_outcome("done")
    assert server.seen[-1].path in ("/v1/chat/completions", "/health")
    asked = [seen.json() for seen in server.seen if seen.method == "POST"]
    assert asked[0]["messages"] == [{"role": "user", "content": "first line\nsecond line"}]
    assert dashboard.question.input_value() == ""
    assert focused(dashboard) == "question"

    say(server, wait_forever)
    keyboard.type("more")
    keyboard.press("Enter")
    dashboard.wait_for_outcome("streaming")
    keyboard.press("Tab")
    assert focused(dashboard) == "stop"
    keyboard.press("Enter")
    dashboard.wait_for_outcome("stopped")
    assert focused(dashboard) == "question"

    keyboard.press("Enter")  # nothing is written, nothing is sent
    assert dashboard.turns.count() == 2


def test_the_order_of_the_focus(open_dashboard: OpenDashboard, server: FakeServer) -> None:
    dashboard = open_dashboard(server.url, width=360, height=740)
    dashboard.page.locator(".skip").focus()
    order = [focused(dashboard)]
    while "send" not in order:
        dashboard.page.keyboard.press("Tab")
        order.append(focused(dashboard))
        assert len(order) < 20, order
    ideas = dashboard.page.locator(".idea").all_text_contents()
    expected = ["Skip to the question", "EN", "ES", "new-chat", "more", "log", *ideas]
    assert order == [*expected, "question", "send"]

    dashboard.page.locator(".skip").focus()
    dashboard.page.keyboard.press("Enter")
    assert focused(dashboard) == "question"

    dashboard.page.locator(".idea").first.focus()
    dashboard.page.keyboard.press("Enter")
    assert focused(dashboard) == "question"
    assert dashboard.question.input_value() == ideas[0]


def test_the_language_is_remembered(open_dashboard: OpenDashboard, server: FakeServer) -> None:
    dashboard = open_dashboard(server.url)
    page = dashboard.page
    dashboard.ask("hello")
    dashboard.wait_for_outcome("done")
    assert (page.locator("html").get_attribute("lang"), page.locator("#send").text_content()) == (
        "en",
        "Send",
    )
    page.locator('[data-lang="es"]').focus()
    page.keyboard.press("Space")
    page.get_by_text("Listo", exact=True).wait_for()
    assert dashboard.answer() == "Hello."
    page.reload()
    assert page.locator("html").get_attribute("lang") == "es"
    assert page.locator("#new-chat").text_content() == "Nuevo chat"
    assert page.get_by_label("Tu pregunta").get_attribute("id") == "question"


def test_a_spanish_browser_gets_spanish(open_dashboard: OpenDashboard, server: FakeServer) -> None:
    dashboard = open_dashboard(server.url, locale="es-MX")
    assert dashboard.page.get_by_role("button", name="Enviar").is_visible()


@pytest.mark.parametrize("locale", ["en", "es"])
@pytest.mark.parametrize("width", [320, 360, 800, 1200])
def test_nothing_scrolls_sideways(
    open_dashboard: OpenDashboard, server: FakeServer, width: int, locale: str
) -> None:
    dashboard = open_dashboard(server.url, width=width, height=740, locale=locale)
    dashboard.wait_for_state("ready")
    assert dashboard.page.evaluate(TOO_WIDE) == []
    if dashboard.page.locator("#more").is_visible():
        dashboard.page.locator("#more").click()
    dropped = event("", sheily={"dropped_messages": 12})
    say(server, fake_server.stream(dropped, event(LONG), USAGE, DONE), model=LONG)
    dashboard.ask(LONG)
    dashboard.wait_for_outcome("done")
    assert dashboard.page.evaluate(TOO_WIDE) == []
    error = {"error": {"message": LONG, "code": "a_very_long_code_" * 4}}
    say(
        server,
        fake_server.answer(503, error, Retry_After="2"),
        503,
        state="restarting",
        progress=0.5,
        reason=LONG,
    )
    dashboard.ask("short")
    dashboard.wait_for_outcome("error")
    dashboard.wait_for_state("restarting")
    assert dashboard.page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_dashboard: OpenDashboard, server: FakeServer, scheme: str) -> None:
    dashboard = open_dashboard(server.url, color_scheme=scheme)
    page = dashboard.page
    dashboard.wait_for_state("ready")
    assert page.evaluate(POOR_CONTRAST) == []
    dropped = event("", sheily={"dropped_messages": 12})
    say(server, fake_server.stream(dropped, event("Hello."), USAGE, DONE))
    dashboard.ask("first")
    dashboard.wait_for_outcome("done")
    say(server, wait_forever, state="loading", progress=0.5)
    dashboard.ask("second")
    dashboard.wait_for_outcome("streaming")
    dashboard.wait_for_state("loading")
    assert page.evaluate(POOR_CONTRAST) == []
    dashboard.stop.click()
    dashboard.wait_for_outcome("stopped")
    error = {"error": {"message": "No.", "code": "no"}}
    say(server, fake_server.answer(503, error), 503, state="failed", reason="Because.")
    dashboard.ask("third")
    dashboard.wait_for_outcome("error")
    dashboard.wait_for_state("failed")
    assert page.evaluate(POOR_CONTRAST) == []


def test_loading_shows_how_far_it_is(open_dashboard: OpenDashboard, server: FakeServer) -> None:
    refused = {"error": {"message": "The model is being loaded (42 %).", "code": "loading"}}
    chat = fake_server.answer(503, refused, Retry_After="2")
    say(server, chat, 503, state="loading", progress=0.42)
    dashboard = open_dashboard(server.url)
    dashboard.wait_for_state("loading")
    dashboard.wait_for_fact("state-text", "Loading the model")
    dashboard.wait_for_fact("state-percent", "42 %")
    assert dashboard.page.get_by_role("progressbar").evaluate("(bar) => bar.value") == 0.42
    dashboard.ask("Hello?")
    turn = dashboard.wait_for_outcome("error")
    assert turn.locator(".message").text_content() == "The model is being loaded (42 %)."
    assert "The server suggests to wait 2 s." in (turn.locator(".foot").text_content() or "")
    say(server, fake_server.stream(event("Hello."), DONE))
    dashboard.wait_for_state("ready")
    assert not dashboard.page.get_by_role("progressbar").is_visible()
    turn.get_by_role("button", name="Try again").click()
    dashboard.wait_for_outcome("done")
    assert dashboard.answer() == "Hello."


@pytest.mark.parametrize(
    ("status", "code", "words", "button"),
    [
        (401, "invalid_api_key", "Start this dashboard with LLM_API_KEY", "Try again"),
        (413, "request_too_large", "Begin a new chat.", "Edit the question"),
        (400, "context_length_exceeded", "larger LLM_CONTEXT_SIZE", "Edit the question"),
        (500, "engine_error", "", "Try again"),
    ],
)
def test_an_error_has_a_way_out(
    open_dashboard: OpenDashboard,
    server: FakeServer,
    status: int,
    code: str,
    words: str,
    button: str,
) -> None:
    say(server, fake_server.answer(status, {"error": {"message": "No.", "code": code}}))
    dashboard = open_dashboard(server.url)
    dashboard.ask("a question")
    turn = dashboard.wait_for_outcome("error")
    advice = turn.locator(".advice")
    assert words in (advice.text_content() or "")
    assert advice.is_visible() == bool(words)
    assert turn.get_by_role("button").all_text_contents() == [button]
    if button == "Edit the question":
        dashboard.question.fill("begun")
        turn.get_by_role("button").click()
        assert dashboard.turns.count() == 0
        assert dashboard.question.input_value() == "a question\nbegun"
        assert dashboard.page.locator("#welcome").is_visible()


def test_errors_are_worded_in_spanish_where_they_are_known(
    open_dashboard: OpenDashboard, server: FakeServer
) -> None:
    dashboard = open_dashboard(server.url, width=360, height=740, locale="es")
    full = {"error": {"message": "64 requests wait already.", "code": "queue_full"}}
    say(server, fake_server.answer(429, full))
    dashboard.ask("hola")
    turn = dashboard.wait_for_outcome("error")
    message = turn.locator(".message")
    assert message.text_content() == "El servidor está ocupado y su cola está llena."
    assert message.get_attribute("lang") == "es"
    original = turn.get_by_text("64 requests wait already.")
    assert not original.is_visible()
    turn.get_by_text("Mensaje original, en inglés").click()
    assert original.is_visible()
    assert dashboard.page.evaluate(TOO_WIDE) == []
    dashboard.page.locator('[data-lang="en"]').click()
    assert turn.locator(".message").text_content() == "64 requests wait already."
    assert turn.locator("details").count() == 0


def test_nothing_becomes_html(open_dashboard: OpenDashboard, server: FakeServer) -> None:
    evil = "<img src=x onerror='window.hit = 1'><script>window.hit = 1</script><b>bold</b>"
    error = b'data: {"error": {"message": "<b>bold</b>", "code": "<i>c</i>"}}\n\n'
    say(server, fake_server.stream(event(evil), error), model=evil)
    dashboard = open_dashboard(server.url)
    dashboard.ask(evil)
    turn = dashboard.wait_for_outcome("error")
    assert dashboard.answer() == evil
    assert turn.locator(".asked .text").text_content() == evil
    assert turn.locator(".message").text_content() == "<b>bold</b>"
    assert turn.locator("code").text_content() == "<i>c</i>"
    dashboard.wait_for_fact("model-id", evil)
    assert dashboard.page.locator("b, i, .turn img, .turn script").count() == 0
    assert dashboard.page.evaluate("window.hit") is None


@pytest.mark.parametrize("reason", ["length", "timed_out"])
def test_an_answer_cut_short_says_so(
    open_dashboard: OpenDashboard, server: FakeServer, reason: str
) -> None:
    choices = [{"index": 0, "delta": {}, "finish_reason": "length"}]
    timings = {"predicted_per_second": 12.34}
    last = event(choices=choices, timings=timings, sheily={"timed_out": reason == "timed_out"})
    say(server, fake_server.stream(event("one"), event(" two"), last, DONE))
    dashboard = open_dashboard(server.url)
    dashboard.ask("count")
    turn = dashboard.wait_for_outcome("done")
    cut = {
        "length": "Cut off at the longest answer allowed",
        "timed_out": "Cut off: the time limit of the server passed",
    }
    figures = turn.locator(".figures").text_content()
    assert figures == f"{cut[reason]} · 2 tokens · 12.3 tokens/s"


def test_a_stream_without_its_end_is_an_error(
    open_dashboard: OpenDashboard, server: FakeServer
) -> None:
    say(server, fake_server.stream(event("half")))
    dashboard = open_dashboard(server.url)
    dashboard.ask("hello")
    turn = dashboard.wait_for_outcome("error")
    assert dashboard.answer() == "half"
    assert turn.locator("code").text_content() == "stream_interrupted"


def test_a_screen_reader_is_told(open_dashboard: OpenDashboard, server: FakeServer) -> None:
    dashboard = open_dashboard(server.url)
    page = dashboard.page
    assert page.get_by_role("log").get_attribute("aria-label") == "Conversation"
    assert page.get_by_role("status").text_content() in ("Asking the server…", "Ready")
    say(server, wait_forever)
    dashboard.ask("hello")
    turn = dashboard.wait_for_outcome("streaming")
    assert turn.locator(".answer").get_attribute("aria-busy") == "true"
    page.keyboard.press("Escape")
    dashboard.wait_for_outcome("stopped")
    assert dashboard.turns.last.locator(".answer").get_attribute("aria-busy") == "false"
    say(server, fake_server.answer(400, {"error": {"message": "No.", "code": "no"}}))
    dashboard.ask("again")
    dashboard.wait_for_outcome("error")
    assert "No." in (page.get_by_role("alert").last.text_content() or "")


def test_somebody_who_reads_above_is_left_there(
    open_dashboard: OpenDashboard, server: FakeServer
) -> None:
    lines = [event(f"line {i}\n") for i in range(120)]
    say(server, fake_server.stream(*lines, DONE))
    dashboard = open_dashboard(server.url)
    dashboard.ask("hello")
    dashboard.wait_for_outcome("done")
    position = "[log.scrollTop, log.scrollHeight - log.clientHeight]"
    top, end = dashboard.page.evaluate(position)
    assert end > 0
    assert top >= end - 2  # it followed the text

    def after_the_reader_moved(handler: fake_server.Handler) -> None:
        handler.events(event("Once"))
        assert moved.wait(fake_server.WAIT)
        for piece in (*lines, DONE):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    moved = threading.Event()
    say(server, after_the_reader_moved)
    dashboard.ask("more")
    dashboard.wait_for_outcome("streaming")
    dashboard.page.evaluate("log.scrollTop = 100")
    moved.set()
    dashboard.wait_for_outcome("done")
    assert dashboard.page.evaluate(position)[0] == 100
