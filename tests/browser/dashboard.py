"""The dashboard's backend as `npm start` runs it, and the page in the words of its reader; knows
nothing of the LLM server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.support.models import ROOT
from tests.support.waiting import WAIT, until
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

FOLDER = ROOT / "dashboard"
WAIT_MS = 30_000.0
"""After which a test gives up on the page; no test takes it when it passes."""
AXE = FOLDER / "node_modules" / "axe-core" / "axe.min.js"


@contextmanager
def running(llm_url: str, **settings: str) -> Iterator[ServerProcess]:
    """A backend for the LLM server at `llm_url`, on a free port unless PORT is set."""
    environment = os.environ | {"PORT": "0", "LLM_URL": llm_url} | settings
    with ServerProcess(["node", "server.js"], cwd=FOLDER, env=environment) as backend:
        yield backend


@contextmanager
def serving(llm_url: str, **settings: str) -> Iterator[str]:
    """The URL of a backend. Its end has to be clean, and its log without an error."""
    with running(llm_url, **settings) as backend:
        yield url_of(backend)
        assert backend.stop() == 0
        assert len(backend.lines) == 1, backend.log


def url_of(backend: ServerProcess) -> str:
    return backend.wait_for_line(r"dashboard on (\S+)", WAIT)[1]


class Dashboard:
    """The chat page, open in a browser."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        page.set_default_timeout(WAIT_MS)
        page.goto(url)
        self.question = page.locator("#question")
        self.send = page.locator("#send")
        self.stop = page.locator("#stop")
        self.questions = page.locator(".asked")
        self.answers = page.locator(".answer")
        self.entries = page.locator("#sidebar .entry .name")
        self.question.wait_for()

    def ask(self, text: str) -> None:
        """Types a question and sends it."""
        self.question.fill(text)
        self.question.press("Enter")

    def wait_for_state(self, state: str) -> None:
        self.page.locator(f'.state[data-state="{state}"]').wait_for()

    def wait_for_outcome(self, outcome: str) -> Locator:
        """The last answer, once that is waiting, streaming, done, stopped or error."""
        answer = self.page.locator(f'.answer[data-outcome="{outcome}"]:last-child')
        answer.wait_for()
        return answer

    def asked_and_answered(self, text: str) -> Locator:
        """Asks, and returns the answer once it is done."""
        n = self.answers.count()
        self.ask(text)
        self.answers.nth(n).wait_for()
        return self.wait_for_outcome("done")

    def answer(self) -> str:
        """The text of the last answer, so far."""
        text = self.answers.last.locator(".text")
        return text.inner_text() if text.count() else ""

    def wait_for_text(self, selector: str, text: str | re.Pattern[str]) -> None:
        """Until what is there reads `text`; some of it is asked for in the background."""
        from playwright.sync_api import expect  # who runs other tests need not have it

        expect(self.page.locator(selector)).to_have_text(text, timeout=WAIT_MS)

    def wait_for(self, expression: str) -> None:
        """Until an expression of JavaScript is true: the page's policy keeps Playwright's own way
        of waiting out."""
        until(lambda: bool(self.page.evaluate(expression)), WAIT)

    def violations(self) -> list[dict[str, Any]]:
        return violations(self.page)


def violations(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds wrong with a page, by rule."""
    page.evaluate(AXE.read_text("utf-8"))
    found: list[dict[str, Any]] = page.evaluate(
        """async () => {
            const { violations } = await axe.run(document, {
                runOnly: [
                    "wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice",
                ],
            });
            return violations.map(({ id, nodes }) => (
                { id, nodes: nodes.map((node) => node.html.slice(0, 200)) }));
        }"""
    )
    return found
