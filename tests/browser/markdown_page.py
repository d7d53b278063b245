"""A page with one Markdown view of the dashboard's and no more, under the backend's policy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.browser.dashboard import WAIT_MS

if TYPE_CHECKING:
    from playwright.sync_api import Page

HELPERS = """async () => {
    document.title = "Markdown";
    for (const link of document.querySelectorAll("link")) link.remove();
    const sheets = ["/css/base.css", "/css/markdown.css"].map((href) => {
        const link = document.createElement("link");
        link.rel = "stylesheet";
        link.href = href;
        document.head.append(link);
        return new Promise((resolve) => link.addEventListener("load", resolve));
    });
    const headings = ["h1", "h2"].map((name) => document.createElement(name));
    for (const heading of headings) heading.textContent = "A heading of the page's";
    const first = document.createElement("div");
    first.id = "view";
    first.className = "markdown";
    document.body.className = "";
    document.body.replaceChildren(...headings, first);
    await Promise.all(sheets);
    window.ran = [];
    window.hit = (...what) => { ran.push(what.join()); };
    for (const name of ["alert", "confirm", "prompt", "print"]) window[name] = window.hit;
    const { MarkdownView } = await import("/markdown/view.js");
    const { WORDS } = await import("/chat/words/index.js");
    window.words = Object.fromEntries(
        Object.entries(WORDS).map(([language, words]) => [language, words.markdown]),
    );
    window.target = document.querySelector("#view");
    window.view = new MarkdownView(target, words.en);
    window.fresh = () => {
        target.replaceChildren();
        const node = target.cloneNode(false);
        target.replaceWith(node);
        window.target = node;
        window.view = new MarkdownView(node, words.en);
    };
    window.scratch = (source) => {
        const node = document.createElement("div");
        new MarkdownView(node, words.en).update(source);
        return node;
    };
    // What is said of what scrolls comes with the layout.
    window.htmlOf = (node) => {
        const copy = node.cloneNode(true);
        for (const frame of copy.querySelectorAll(".scrolls")) {
            for (const name of ["tabindex", "role", "aria-label"]) frame.removeAttribute(name);
        }
        return copy.innerHTML;
    };
}"""


class MarkdownPage:
    """The view, and what the page asks the network for or complains of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(WAIT_MS)
        # The backend's page with its policy, of which nothing else stays.
        nothing = {"content_type": "text/javascript", "body": ""}
        page.route("**/chat/main.js", lambda route: route.fulfill(**nothing))
        page.context.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.goto(f"{url}/")
        page.evaluate(HELPERS)
        self.view = page.locator("#view")

    def show(self, source: str, streaming: bool = False) -> None:
        """Shows a text."""
        script = "([source, streaming]) => { view.update(source, { streaming }); }"
        self.page.evaluate(script, [source, streaming])

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def check(self) -> None:
        """Nothing ran, nothing was asked for but the page's own files, nobody complained."""
        assert self.page.evaluate("ran") == []
        own = r"/([a-z-]+/)*[a-z-]*(\.(css|js|svg))?"
        for url in self.requests:
            assert re.fullmatch(re.escape(self.url) + f"({own})", url), url
        assert self.complaints == []
