"""The dashboard's backend as `npm start` runs it, and the page in the words of its reader; knows
nothing of the LLM server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.models import ROOT
from tests.support.waiting import WAIT
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

FOLDER = ROOT / "dashboard"
WAIT_MS = 30_000.0
"""After which a test gives up on the page; no test takes it when it passes."""


@contextmanager
def running(llm_url: str) -> Iterator[str]:
    """A backend for the LLM server at `llm_url`, on a free port; its URL. Its end has to be clean,
    and its log without an error."""
    environment = os.environ | {"PORT": "0", "LLM_URL": llm_url}
    with ServerProcess(["node", "server.js"], cwd=FOLDER, env=environment) as backend:
        yield backend.wait_for_line(r"dashboard on (\S+)", WAIT)[1]
        assert backend.stop() == 0
        assert len(backend.lines) == 1, backend.log


class Dashboard:
    """The page, open in a browser."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.set_default_timeout(WAIT_MS)
        page.goto(url)
        self.question = page.locator("#question")
        self.send = page.locator("#send")
        self.stop = page.locator("#stop")
        self.turns = page.locator(".turn")
        self.state = page.locator(".state")

    def ask(self, text: str) -> None:
        """Types a question and sends it."""
        self.question.fill(text)
        self.question.press("Enter")

    def wait_for_state(self, state: str) -> None:
        self.page.locator(f'.state[data-state="{state}"]').wait_for()

    def wait_for_outcome(self, outcome: str) -> Locator:
        """The last question with its answer, once that is streaming, done, stopped or error."""
        turn = self.page.locator(f'.turn[data-outcome="{outcome}"]:last-child')
        turn.wait_for()
        return turn

    def answer(self) -> str:
        """The text of the last answer, so far."""
        return self.turns.last.locator(".answer .text").text_content() or ""

    def wait_for_fact(self, id: str, text: str | re.Pattern[str]) -> None:
        """Until a figure of the model's panel reads `text`; it is asked for in the background."""
        from playwright.sync_api import expect  # who runs other tests need not have it

        expect(self.page.locator(f"#{id}")).to_have_text(text, timeout=WAIT_MS)
