"""Headless Chromium, and the servers under the pages it opens. Where Chromium, Node or Playwright
is missing, every test here is skipped with what to install."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import dashboard
from tests.browser.dashboard import Dashboard
from tests.browser.markdown_page import MarkdownPage
from tests.support import models, scripted_llm
from tests.support.real_server import RealServer
from tests.support.scripted_llm import ScriptedLlm

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
FOREIGN_HOST = "foreign.example"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {FOREIGN_HOST} 127.0.0.1",
]

OpenPage = Callable[..., "Page"]
OpenDashboard = Callable[..., Dashboard]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def node() -> None:
    if shutil.which("node") is None:
        pytest.skip("no node: apt install nodejs")
    if not (dashboard.FOLDER / "node_modules").is_dir():
        pytest.skip("no packages of the page: npm --prefix dashboard ci")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright: pip install '.[browser]'"
    )
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        pytest.skip("no Chromium: apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens a page in a fresh profile; no script on it may fail."""
    errors: list[str] = []
    with ExitStack() as contexts:

        def open_page(width: int = 1200, height: int = 800, **options: Any) -> Page:
            options = {"locale": "en-GB"} | options
            context = browser.new_context(viewport={"width": width, "height": height}, **options)
            contexts.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            return page

        yield open_page
    assert errors == []


@pytest.fixture
def open_dashboard(node: None, open_page: OpenPage) -> Iterator[OpenDashboard]:
    """Opens the page of a backend of its own, for the LLM server at a URL."""
    with ExitStack() as backends:

        def open_dashboard(
            llm_url: str, settings: dict[str, str] | None = None, **options: Any
        ) -> Dashboard:
            url = backends.enter_context(dashboard.serving(llm_url, **(settings or {})))
            return Dashboard(open_page(**options), url)

        yield open_dashboard


@pytest.fixture
def llm() -> Iterator[ScriptedLlm]:
    """An LLM server whose answers the test writes."""
    with scripted_llm.running() as llm:
        yield llm


@pytest.fixture(scope="session")
def smollm2_server() -> Iterator[RealServer]:
    """Real answers, short ones, and little history."""
    with RealServer(
        models.smollm2(), context_size=2048, max_tokens=40, max_history=2, parallel=2
    ) as server:
        server.wait_for_state("ready")
        yield server


@pytest.fixture
def endless_server() -> Iterator[RealServer]:
    """A model of random weights, whose answers take about a minute to end by themselves; of its
    own for each test, as its engine may be killed."""
    with RealServer(
        models.tiny_llama3(), context_size=16384, max_tokens=16000, parallel=2
    ) as server:
        server.wait_for_state("ready")
        yield server


@pytest.fixture(scope="session")
def quiet_url(node: None) -> Iterator[str]:
    """A backend whose LLM server is not there, for what needs its files and its policy alone."""
    allowed = {"DASHBOARD_ALLOWED_HOSTS": FOREIGN_HOST}
    with dashboard.serving("http://127.0.0.1:9", **allowed) as url:
        yield url.rstrip("/")


@pytest.fixture
def markdown(open_page: OpenPage, quiet_url: str) -> Iterator[MarkdownPage]:
    """Nothing that is shown asks for anything, and nothing has to be stopped by the policy."""
    page = MarkdownPage(open_page(), quiet_url)
    yield page
    page.check()
