"""Answers that are interrupted at any moment go on where they were, or say that they cannot: no
text comes twice, none is lost. SHEILY_TORTURE=1 makes it fifty times each."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable

import pytest

from tests.browser import dashboard
from tests.browser.conftest import OpenDashboard, OpenPage
from tests.browser.dashboard import Dashboard
from tests.support import proxy
from tests.support.real_server import RealServer
from tests.support.scripted_llm import Say, ScriptedLlm
from tests.support.waiting import until

TIMES = 50 if os.environ.get("SHEILY_TORTURE") else 4
N_WORDS = 60
PACE_S = 0.01
SEED = 20261127

pytestmark = pytest.mark.timeout(1800)


def words(i: int) -> list[str]:
    """The pieces of answer number `i`, each of its own."""
    return [f"w{i}-{j} " for j in range(N_WORDS)]


def interrupt_often(page: Dashboard, llm: ScriptedLlm, interrupt: Callable[[], None]) -> None:
    """Asks, interrupts at a moment that is drawn, and compares the answer word by word."""
    drawn = random.Random(SEED)
    for i in range(TIMES):
        llm.say = Say(words(i), pace=PACE_S)
        page.ask(f"question {i}")
        time.sleep(drawn.uniform(0, 1.2 * N_WORDS * PACE_S))
        interrupt()
        page.question.wait_for()
        page.page.locator(f".asked:has-text('question {i}')").last.wait_for()
        page.wait_for_outcome("done")
        assert page.answer().split() == "".join(words(i)).split()
    assert page.answers.count() == min(TIMES, 20)  # of more, the newest are drawn
    # Each was asked for once, however often the question was sent.
    assert len(llm.keys) == TIMES
    page.page.reload()  # what the server could not be told to forget, it is told now
    until(lambda: len(llm.deleted) == TIMES)


def reload(page: Dashboard) -> None:
    page.page.reload()


def test_a_reload(open_dashboard: OpenDashboard, llm: ScriptedLlm) -> None:
    page = open_dashboard(llm.url)
    interrupt_often(page, llm, lambda: reload(page))


def test_a_lost_line_to_the_backend(open_page: OpenPage, node: None, llm: ScriptedLlm) -> None:
    with dashboard.serving(llm.url) as url, proxy.before(url) as line:
        page = Dashboard(open_page(), line.url)

        def interrupt() -> None:
            line.cut()
            time.sleep(0.2)
            line.mend()

        interrupt_often(page, llm, interrupt)


def test_a_lost_line_to_the_llm_server(open_page: OpenPage, node: None, llm: ScriptedLlm) -> None:
    with proxy.before(llm.url) as line, dashboard.serving(line.url) as url:
        page = Dashboard(open_page(), url)

        def interrupt() -> None:
            line.cut()
            line.mend()

        interrupt_often(page, llm, interrupt)


def test_a_killed_backend(open_page: OpenPage, node: None, llm: ScriptedLlm) -> None:
    """The same port again, as whatever starts it again would take."""
    backends = [dashboard.running(llm.url)]
    first = backends[0].__enter__()
    url = dashboard.url_of(first)
    port = url.rsplit(":", 1)[1]
    running = [first]
    try:
        page = Dashboard(open_page(), url)

        def interrupt() -> None:
            running[-1].kill()
            backends[-1].__exit__(None, None, None)
            time.sleep(0.1)
            backends.append(dashboard.running(llm.url, PORT=port))
            running.append(backends[-1].__enter__())
            dashboard.url_of(running[-1])

        interrupt_often(page, llm, interrupt)
    finally:
        backends[-1].__exit__(None, None, None)


def test_a_killed_engine(open_dashboard: OpenDashboard, endless_server: RealServer) -> None:
    """What came stays, and the page says that the answer cannot go on by itself."""
    page = open_dashboard(endless_server.url)
    drawn = random.Random(SEED)
    for i in range(TIMES):
        until(lambda: endless_server.health()["state"] == "ready")
        page.page.keyboard.press("Control+Shift+O")
        page.page.locator("#welcome").wait_for()
        page.ask(f"Tell story number {i}.")
        page.wait_for_outcome("streaming")
        time.sleep(drawn.uniform(0, 0.5))
        os.kill(endless_server.engine_pid(), signal.SIGKILL)
        answer = page.wait_for_outcome("error")
        code = answer.locator(".error code").text_content() or ""
        assert re.match("engine_crashed", code), code
        assert page.answer() != ""
        assert answer.get_by_role("button", name="Continue").count() == 1
