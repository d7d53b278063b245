"""The page of metrics in Chromium: drawn, in words, in both languages, on any screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser import dashboard
from tests.browser.conftest import OpenPage
from tests.browser.dashboard import WAIT_MS, violations
from tests.browser.pages import POOR_CONTRAST
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


def says(llm: ScriptedLlm, requests: int, tokens: int, restarts: int = 0) -> None:
    llm.metrics = METRICS.format(requests=requests, tokens=tokens, restarts=restarts)


def opened(open_page: OpenPage, url: str, **options: object) -> tuple[Page, list[str]]:
    page = open_page(**options)
    page.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{url}/metrics.html")
    return page, complaints


def test_it_draws_what_the_server_does(node: None, open_page: OpenPage, llm: ScriptedLlm) -> None:
    says(llm, requests=1, tokens=10)
    with dashboard.serving(llm.url) as url:
        page, complaints = opened(open_page, url)
        page.locator("#generated canvas").wait_for()
        says(llm, requests=5, tokens=110, restarts=1)
        until(lambda: "4 answers" in (page.locator("#first .says").text_content() or ""))
        assert page.locator("#state").text_content() == "Ready"
        assert page.locator("#waiting").text_content() == "3"
        assert page.locator("#cells-now").text_content() == "25 %"
        assert page.locator("#restarts").text_content() == "1"
        assert "started again once (marked)" in (page.locator("#events").text_content() or "")
        assert page.locator("#cells .says").text_content() == (
            "250 of 1,000 used by running requests, 100 kept as cache."
        )
        assert page.locator("#outcomes .says").text_content() == "4 answered, 0 otherwise ended."
        colours = page.evaluate(PAINTED)
        assert len(colours) == 6
        assert min(colours) > 2
        page.get_by_role("button", name="1 hour").click()
        assert page.locator('[aria-pressed="true"]').text_content() == "1 hour"
        assert complaints == []


def test_a_server_that_is_away_is_a_gap(node: None, open_page: OpenPage, llm: ScriptedLlm) -> None:
    says(llm, requests=1, tokens=10)
    with dashboard.serving(llm.url) as url:
        page, _ = opened(open_page, url)
        page.locator("#generated canvas").wait_for()
        llm.away = True
        until(lambda: page.locator("#state").text_content() == "Not reachable")
        llm.away = False
        until(lambda: page.locator("#state").text_content() == "Ready")
        assert "did not answer" in (page.locator("#events").text_content() or "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "locale"), [(360, "es-ES"), (1200, "en-GB")])
def test_it_can_be_read_on_any_screen(
    node: None, open_page: OpenPage, llm: ScriptedLlm, scheme: str, width: int, locale: str
) -> None:
    says(llm, requests=1, tokens=10)
    with dashboard.serving(llm.url) as url:
        page, _ = opened(open_page, url, width=width, color_scheme=scheme, locale=locale)
        page.locator("#generated canvas").wait_for()
        says(llm, requests=40, tokens=900)
        until(lambda: "39" in (page.locator("#first .says").text_content() or ""))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(POOR_CONTRAST) == []
        assert violations(page) == []
        words = "Métricas" if locale == "es-ES" else "Metrics"
        assert page.locator("h1").text_content() == words


def test_without_a_backend_it_says_so(node: None, open_page: OpenPage, llm: ScriptedLlm) -> None:
    says(llm, requests=1, tokens=10)
    with dashboard.serving(llm.url) as url:
        page, _ = opened(open_page, url)
        page.locator("#generated canvas").wait_for()
    page.get_by_text("The dashboard's backend cannot be reached.").wait_for()
