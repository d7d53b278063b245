"""How fast the dashboard's pages are in Chromium: first paint, a conversation of 10,000 messages.

    python -m benchmarks.dashboard

It needs Node with the dashboard's packages, Chromium and Playwright, and no model: the LLM server
is a scripted one. A new conversation is measured beside the long one, on the same machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sheily_server.version import ShowVersion
from tests.browser import dashboard
from tests.browser.conftest import CHROMIUM_NAMES, FLAGS
from tests.support import scripted_llm
from tests.support.scripted_llm import Say

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TIMES = 5
MESSAGES = 10_000
LONG_ANSWER = (
    "A paragraph with **some** text and `code`.\n\n- one\n- two\n\n```js\nlet a = 1;\n```\n\n"
)

PAINT = """() => new Promise((done) => {
    new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime))
        .observe({ type: "paint", buffered: true });
})"""
FRAMES = """(seconds) => new Promise((done) => {
    const frames = [];
    let last = performance.now();
    const end = last + 1000 * seconds;
    const step = (now) => {
        frames.push(now - last);
        last = now;
        const log = document.getElementById("log");
        log.scrollTop -= 400;
        if (now < end) requestAnimationFrame(step);
        else done(frames);
    };
    requestAnimationFrame(step);
})"""


def first_paint(browser: Browser, url: str) -> list[float]:
    """Milliseconds to the first paint, each in a fresh profile."""
    found = []
    for _ in range(TIMES):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.locator("h1").wait_for()
        found.append(float(page.evaluate(PAINT)))
        context.close()
    return found


def conversation() -> str:
    """A file with one long conversation."""
    messages = [
        {
            "id": f"m{i}",
            "parent": f"m{i - 1}" if i else None,
            "role": "assistant" if i % 2 else "user",
            "created": 1_700_000_000_000 + i,
            "text": f"Message number {i}. {LONG_ANSWER if i % 2 else ''}",
        }
        for i in range(MESSAGES)
    ]
    one = {"title": "Long", "updated": 1_700_000_000_000, "messages": messages}
    return json.dumps({"format": "sheily-conversations", "version": 1, "conversations": [one]})


def long_conversation(page: Page, url: str, llm: scripted_llm.ScriptedLlm) -> dict[str, float]:
    """Milliseconds to open it, of its frames while it is scrolled, and `while_streaming`."""
    page.goto(url)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "long.json"
        file.write_text(conversation(), "utf-8")
        page.locator("#settings-button").click()
        page.locator("#import-file").set_input_files(file)
        page.get_by_text("1 conversation imported.").wait_for()
    begin = time.perf_counter()
    page.locator("#sidebar .entry .name", has_text="Long").click()
    page.get_by_text(f"Message number {MESSAGES - 1}.").wait_for()
    opened = time.perf_counter() - begin
    scrolled = sorted(page.evaluate(FRAMES, 5))
    return {
        "open_ms": 1000 * opened,
        "scroll_frame_p50_ms": statistics.median(scrolled),
        "scroll_frame_p99_ms": scrolled[int(0.99 * len(scrolled))],
        **while_streaming(page, llm, "long"),
    }


def while_streaming(page: Page, llm: scripted_llm.ScriptedLlm, name: str) -> dict[str, float]:
    """Milliseconds of frames, and from a key to its letter, while an answer of 12 KB comes."""
    llm.say = Say([LONG_ANSWER] * 150, pace=0.03)
    page.locator("#question").fill("On and on")
    page.keyboard.press("Enter")
    page.locator('.answer:last-child[data-outcome="streaming"]').wait_for()
    frames = sorted(page.evaluate(FRAMES.replace("log.scrollTop -= 400;", ""), 4))
    typed = []
    for letter in "smooth":
        begin = time.perf_counter()
        page.locator("#question").press(letter)
        typed.append(time.perf_counter() - begin)
    return {
        f"{name}_stream_frame_p50_ms": statistics.median(frames),
        f"{name}_stream_frame_p99_ms": frames[int(0.99 * len(frames))],
        f"{name}_key_ms": 1000 * statistics.median(typed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dashboard",
        description="Measures the dashboard's pages in Chromium: first paint, and a conversation "
        "of 10,000 messages.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.parse_args()

    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)))
    figures: dict[str, Any] = {}
    with (
        scripted_llm.running() as llm,
        dashboard.serving(llm.url) as url,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=executable, args=FLAGS)
        figures["chat_first_paint_ms"] = statistics.median(first_paint(browser, url))
        metrics = f"{url}/metrics.html"
        figures["metrics_first_paint_ms"] = statistics.median(first_paint(browser, metrics))
        page = browser.new_page()
        page.goto(url)
        figures |= while_streaming(page, llm, "new")
        page.keyboard.press("Escape")
        figures |= long_conversation(page, url, llm)
        browser.close()
    for name, value in figures.items():
        print(f"{name:26} {value:9.1f}")
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
