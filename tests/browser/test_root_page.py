"""The server's own page in Chromium: what it shows, in which language, on which screens."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import FOREIGN_HOST, OpenPage
from tests.browser.dashboard import WAIT_MS
from tests.browser.pages import POOR_CONTRAST
from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def tiny_server() -> Iterator[RealServer]:
    with RealServer(models.tiny_llama3(), context_size=1024) as server:
        server.wait_for_state("ready")
        yield server


def expect_text(page: Page, id: str, text: str | re.Pattern[str]) -> None:
    from playwright.sync_api import expect

    expect(page.locator(f"#{id}")).to_have_text(text, timeout=WAIT_MS)


def opened(open_page: OpenPage, url: str, **options: object) -> Page:
    """The page, which must run without a complaint of its policy and without a request that fails.
    A 503 of /health is no such thing."""
    page = open_page(**options)
    page.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(url)
    # Playwright's own way of waiting evaluates a string, which the page's policy forbids.
    until(lambda: page.locator("#running").text_content() != "\u2013")
    assert [each for each in complaints if "503" not in each] == []
    return page


@pytest.mark.parametrize(("locale", "state"), [("en-GB", "Ready"), ("es-ES", "Listo")])
def test_in_the_reader_s_language(
    tiny_server: RealServer, open_page: OpenPage, locale: str, state: str
) -> None:
    page = opened(open_page, tiny_server.url, locale=locale)
    expect_text(page, "state", state)
    assert page.locator("html").get_attribute("lang") == locale[:2]
    page.locator("header a").click()
    expect_text(page, "state", "Listo" if state == "Ready" else "Ready")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("locale", ["en-GB", "es-ES"])
def test_it_can_be_read_on_any_screen(
    tiny_server: RealServer, open_page: OpenPage, scheme: str, width: int, locale: str
) -> None:
    page = opened(
        open_page, tiny_server.url, width=width, height=800, color_scheme=scheme, locale=locale
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(POOR_CONTRAST) == []


def test_what_is_shown_can_be_pasted(tiny_server: RealServer, open_page: OpenPage) -> None:
    page = opened(open_page, tiny_server.url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator('[data-copies="curl"]').click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#curl").text_content()
    short = copied.replace('"messages"', '"max_tokens": 4, "messages"')
    if shutil.which("curl"):
        answer = subprocess.run(["sh", "-c", short], capture_output=True, text=True, check=True)
        assert '"chat.completion"' in answer.stdout
    program = page.locator("#python").text_content() or ""
    program = program.replace("    messages=", "    max_tokens=4,\n    messages=")
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)


def test_speed_and_queue_are_those_of_now(endless_server: RealServer, open_page: OpenPage) -> None:
    page = opened(open_page, endless_server.url)
    expect_text(page, "speed", "idle")
    expect_text(page, "running", "0 of 2")
    for _ in endless_server.client.stream("go"):
        expect_text(page, "running", "1 of 2")
        expect_text(page, "speed", re.compile(r"[\d.,]+ tokens/s"))
        break
    expect_text(page, "running", "0 of 2")


def test_without_a_model_it_shows_the_way_to_one_and_then_the_model(
    open_page: OpenPage, tmp_path: Path
) -> None:
    path = tmp_path / "late.gguf"
    with RealServer(path, context_size=1024) as server:
        server.wait_for_state("failed")
        page = opened(open_page, server.url)
        expect_text(page, "state", "No model to answer with")
        assert str(path) in (page.locator("#reason").text_content() or "")
        assert "\n".join(server.health()["reason"].split("\n")[1:]) == (
            page.locator("#lines").text_content()
        )
        assert page.locator("#commands").is_visible()
        shutil.copyfile(models.tiny_llama3(), path)
        expect_text(page, "state", "Ready")
        assert not page.locator("#commands").is_visible()
        server.kill()
        expect_text(page, "state", "The server cannot be reached")


def test_a_server_with_keys_shows_its_page(open_page: OpenPage) -> None:
    with RealServer(models.tiny_llama3(), context_size=1024, api_key="a-secret-key") as server:
        page = opened(open_page, server.url)
        expect_text(page, "state", "Ready")
        assert "a-secret-key" not in page.content()
        assert "$LLM_API_KEY" in (page.locator("#curl").text_content() or "")
        assert page.locator("input").count() == 0


def test_a_foreign_name_gets_no_page(tiny_server: RealServer, open_page: OpenPage) -> None:
    port = tiny_server.url.rpartition(":")[2]
    page = open_page()
    answer = page.goto(f"http://{FOREIGN_HOST}:{port}/")
    assert answer is not None
    assert answer.status == 403
