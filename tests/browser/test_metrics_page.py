"""The page of metrics in Chromium: drawn, in words, in both languages, on any screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import dashboard
from tests.browser.conftest import OpenPage
from tests.browser.dashboard import WAIT_MS, violations
from tests.browser.pages import POOR_CONTRAST, TOO_WIDE
from tests.support.scripted_llm import ScriptedLlm
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

METRICS = """\
# TYPE sheily_requests counter
sheily_requests_total{{route="/v1/responses",outcome="ok"}} {requests}
sheily_first_token_seconds_bucket{{le="0.1"}} {requests}
sheily_first_token_seconds_bucket{{le="1"}} {requests}
sheily_first_token_seconds_bucket{{le="+Inf"}} {requests}
sheily_first_token_seconds_count {requests}
sheily_first_token_seconds_sum 0.5
sheily_token_gap_seconds_count {tokens}
sheily_generated_tokens_total {tokens}
sheily_prompt_tokens_total 400
sheily_cached_tokens_total 100
sheily_engine_state{{state="ready"}} 1
sheily_engine_state{{state="failed"}} 0
sheily_engine_restarts_total {restarts}
sheily_requests_running 2
sheily_requests_queued 3
sheily_kv_cells 1000
sheily_kv_cells_used 250
sheily_kv_cells_cached 100
"""

PAINTED = """() => [...document.querySelectorAll(".panel canvas")].map((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] > 0) seen.add(`${data[i]} ${data[i + 1]} ${data[i + 2]}`);
    }
    return seen.size;
})"""
"""How many colours each chart has."""

HAS_COLOUR = """([id, name]) => {
    const style = getComputedStyle(document.documentElement);
    const hex = style.getPropertyValue(name).trim();
    const wanted = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const canvas = document.querySelector(`#${id} canvas`);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4) {
        const near = wanted.every((c, k) => Math.abs(c - data[i + k]) < 12);
        if (data[i + 3] > 200 && near) return true;
    }
    return false;
}"""
"""Whether a chart has a colour of the page's in it."""


def says(llm: ScriptedLlm, requests: int, tokens: int, restarts: int = 0) -> None:
    llm.metrics = METRICS.format(requests=requests, tokens=tokens, restarts=restarts)


def opened(open_page: OpenPage, url: str, **options: object) -> tuple[Page, list[str]]:
    page = open_page(**options)
    page.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{url}/metrics.html")
    return page, complaints


def text_of(page: Page, selector: str) -> str:
    return page.locator(selector).text_content() or ""


def sample(t: int, **fields: object) -> dict[str, Any]:
    """What the backend says of a server that made nothing."""
    return {
        "t": t,
        "up": True,
        "state": "ready",
        "tokens": 0,
        "prompt": 0,
        "cached": 0,
        "requests": {},
        "restarts": 0,
        "first_token": {"count": 0, "sum_s": 0, "buckets": [0]},
        "running": 0,
        "queued": 0,
        "background": 0,
        "cells": 1000,
        "cells_used": 0,
        "cells_cached": 0,
    } | fields


def scripted(page: Page, url: str, samples: list[dict[str, Any]], now: int) -> list[str]:
    """Opens the page with a backend that has these samples; the list gets the calls of it."""
    calls: list[str] = []

    def answer(route: Any) -> None:
        calls.append(route.request.url)
        given = [] if "after=" in route.request.url else samples
        body = {"interval_s": 2, "now": now, "first_token_le": [1], "samples": given}
        route.fulfill(json=body)

    page.route("**/api/metrics*", answer)
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{url}/metrics.html")
    return calls


def test_it_draws_what_the_server_does(node: None, open_page: OpenPage, llm: ScriptedLlm) -> None:
    says(llm, requests=1, tokens=10)
    with dashboard.serving(llm.url) as url:
        page, complaints = opened(open_page, url)
        page.locator("#generated canvas").wait_for()
        says(llm, requests=5, tokens=110, restarts=1)
        until(lambda: "4 answers" in text_of(page, "#first .says"))
        assert text_of(page, "#state") == "Ready"
        assert text_of(page, "#waiting") == "3"
        assert text_of(page, "#cells-now") == "25%"
        assert text_of(page, "#restarts") == "1"
        assert "started again once (marked)" in text_of(page, "#events")
        says_of_cells = "250 of 1,000 in use now, at most 250; 100 keep prefixes for later."
        assert text_of(page, "#cells .says") == says_of_cells
        assert text_of(page, "#outcomes .says").startswith("4 without error, 0 left")
        picture = page.get_by_role("img", name=f"KV cells. {says_of_cells}")
        assert picture.evaluate("(node) => node.tagName") == "CANVAS"
        page.get_by_role("button", name="1 hour").click()
        assert text_of(page, '[aria-pressed="true"]') == "1 hour"
        assert complaints == []  # before Chromium has its advice on reading pictures
        colours = page.evaluate(PAINTED)
        assert len(colours) == 6
        assert min(colours) > 2
        assert page.evaluate(HAS_COLOUR, ["cells", "--bad"])  # the mark of the restart


def test_restarts_gaps_and_counters_that_begin_again(
    node: None, open_page: OpenPage, llm: ScriptedLlm
) -> None:
    now = 1_795_808_510_000
    samples = [
        sample(now - 60_000, tokens=500, requests={"ok": 9}),
        sample(now - 58_000, tokens=540, requests={"ok": 10}),
        *({"t": now - t, "up": False} for t in range(56_000, 36_000, -2_000)),
        sample(now - 36_000, requests={"ok": 2}, tokens=4),
        sample(now - 2_000, requests={"ok": 2}, tokens=4),
        sample(now, requests={"ok": 2}, tokens=44, queued=5),
    ]
    with dashboard.serving(llm.url) as url:
        page = open_page()
        scripted(page, url, samples, now)
        page.locator("#generated canvas").wait_for()
        assert text_of(page, "#events") == (
            "The server did not answer for 22 s of this time (hatched). "
            "For 34 s there are no figures: the dashboard did not look."
        )
        assert page.evaluate(HAS_COLOUR, ["generated", "--sunken"])
        assert not page.evaluate(HAS_COLOUR, ["generated", "--bad"])
        assert text_of(page, "#generated .says") == (
            "20.0 tokens/s now; from 20.0 to 20.0 in this time."
        )
        assert text_of(page, "#outcomes .says").startswith("3 without error")
        assert text_of(page, "#waiting") == "5"


def test_the_arrow_keys_move_one_crosshair_through_all_charts(
    node: None, open_page: OpenPage, llm: ScriptedLlm
) -> None:
    now = 1_795_808_510_000
    samples = [sample(now - 2_000 * i, queued=i, running=1) for i in range(20, -1, -1)]
    with dashboard.serving(llm.url) as url:
        page = open_page(timezone_id="UTC")
        scripted(page, url, samples, now)
        chart = page.get_by_role("slider", name="Requests: points of the chart")
        chart.focus()
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
        assert chart.get_attribute("aria-valuetext") == (
            "19:41:44, at work 1, waiting 3, in the background 0"
        )
        assert text_of(page, "#requests .legend") == "at work1waiting3in the background0"
        assert text_of(page, "#cells .at") == "19:41:44"
        page.keyboard.press("Escape")
        assert text_of(page, "#cells .at") == ""
        assert text_of(page, "#requests .legend") == "at work1waiting0in the background0"


def test_what_is_not_there_yet_is_said(node: None, open_page: OpenPage, llm: ScriptedLlm) -> None:
    now = 1_795_808_510_000
    with dashboard.serving(llm.url) as url:
        for samples, said, charts in (
            ([], "No data yet.", False),
            ([{"t": now, "up": False}], "The LLM server has not answered yet.", False),
            ([sample(now - 2_000), sample(now)], "The server has had no request yet.", True),
        ):
            page = open_page()
            scripted(page, url, samples, now)
            page.locator("#empty", has_text=said).wait_for()
            assert page.locator("#panels").is_visible() == charts


def test_a_hidden_page_asks_nothing_and_catches_up(
    node: None, open_page: OpenPage, llm: ScriptedLlm
) -> None:
    now = 1_795_808_510_000
    show = """(hidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with dashboard.serving(llm.url) as url:
        page = open_page()
        page.clock.install()
        calls = scripted(page, url, [sample(now - 2_000), sample(now)], now)
        page.locator("#generated canvas").wait_for()
        page.evaluate(show, True)
        asked = len(calls)
        page.clock.run_for(60_000)
        assert len(calls) == asked
        page.evaluate(show, False)
        page.evaluate("dispatchEvent(new Event('focus'))")
        until(lambda: len(calls) > asked)
        assert calls[-1].endswith(f"?after={now}")


def test_a_session_that_ends_leads_to_the_login(
    node: None, open_page: OpenPage, llm: ScriptedLlm
) -> None:
    password = "a password of ours"
    with dashboard.serving(llm.url, DASHBOARD_PASSWORD=password) as url:
        page = open_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(f"{url}/metrics.html")
        page.locator("input[type=password]").fill(password)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/metrics.html")
        page.locator("h1", has_text="Metrics").wait_for()
        page.context.clear_cookies()
        page.wait_for_url(f"{url}/login.html")


def test_a_server_that_is_away_is_a_gap(node: None, open_page: OpenPage, llm: ScriptedLlm) -> None:
    says(llm, requests=1, tokens=10)
    with dashboard.serving(llm.url) as url:
        page, _ = opened(open_page, url)
        page.locator("#generated canvas").wait_for()
        llm.away = True
        until(lambda: text_of(page, "#state") == "Not reachable")
        assert text_of(page, "#speed") == "\N{EN DASH}"
        llm.away = False
        until(lambda: text_of(page, "#state") == "Ready")
        assert "did not answer" in text_of(page, "#events")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "locale"), [(360, "es-ES"), (1200, "en-GB")])
def test_it_can_be_read_on_any_screen(
    node: None, open_page: OpenPage, llm: ScriptedLlm, scheme: str, width: int, locale: str
) -> None:
    says(llm, requests=1, tokens=10)
    with dashboard.serving(llm.url) as url:
        page, complaints = opened(open_page, url, width=width, color_scheme=scheme, locale=locale)
        page.locator("#generated canvas").wait_for()
        says(llm, requests=40, tokens=900)
        until(lambda: "39" in text_of(page, "#first .says"))
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate(POOR_CONTRAST) == []
        assert complaints == []
        assert violations(page) == []
        spanish = locale == "es-ES"
        assert text_of(page, "h1") == ("Métricas" if spanish else "Metrics")
        in_use = "250 de 1.000 en uso ahora" if spanish else "250 of 1,000 in use now"
        assert text_of(page, "#cells .says").startswith(in_use)
        columns = page.evaluate(
            "getComputedStyle(document.querySelector('.panels')).gridTemplateColumns"
        )
        assert len(columns.split()) == (1 if width == 360 else 2)


def test_without_a_backend_it_says_so(node: None, open_page: OpenPage, llm: ScriptedLlm) -> None:
    says(llm, requests=1, tokens=10)
    with dashboard.serving(llm.url) as url:
        page, _ = opened(open_page, url)
        page.locator("#generated canvas").wait_for()
    page.get_by_text("The dashboard's backend cannot be reached.").wait_for()
