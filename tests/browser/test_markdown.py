"""Markdown of answers: what it looks like, how it grows, code that is copied."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.browser import pages
from tests.browser.conftest import FOREIGN_HOST, OpenPage
from tests.browser.dashboard import AXE
from tests.browser.markdown_page import MarkdownPage
from tests.support.markdown_texts import LANGUAGES, LONG, TEXTS, WHOLE
from tests.support.waiting import until

PREFIXES = """(source) => {
    fresh();
    const whole = scratch(source).textContent;
    const others = [];
    for (let i = 1; i <= source.length; i++) {
        view.update(source.slice(0, i), { streaming: true });
        const shown = target.textContent.trimEnd();
        if (!whole.startsWith(shown)) others.push([source.slice(i - 30, i), shown.slice(-40)]);
    }
    return others;
}"""
CUT = """([source, cuts]) => {
    fresh();
    for (const cut of cuts) view.update(source.slice(0, cut), { streaming: true });
    view.update(source);
    return htmlOf(target) === htmlOf(scratch(source));
}"""


def test_a_text_grows_and_never_changes_what_was_shown(markdown: MarkdownPage) -> None:
    assert markdown.evaluate(PREFIXES, WHOLE) == []


def test_the_end_is_the_same_however_a_text_came(markdown: MarkdownPage) -> None:
    chance = random.Random(15)
    sources = [*TEXTS, "\n\n".join(TEXTS), WHOLE]
    sources += ["\n".join(chance.sample(TEXTS, 4)) for _ in range(40)]
    for source in sources:
        every = list(range(len(source) + 1)) if len(source) < 1_500 else []
        some = sorted(chance.sample(range(len(source) + 1), min(40, len(source))))
        for cuts in (every, some):
            assert markdown.evaluate(CUT, [source, cuts]), source


def test_a_text_may_become_any_other(markdown: MarkdownPage) -> None:
    chance = random.Random(16)
    script = """(sources) => sources.filter((source, i) => {
        view.update(source, { streaming: i % 3 === 0 });
        view.update(source);
        return htmlOf(target) !== htmlOf(scratch(source));
    })"""
    assert markdown.evaluate(script, [chance.choice(TEXTS) for _ in range(300)]) == []


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("# A\n\n## B\n\n###### C", "<h3>A</h3><h4>B</h4><h6>C</h6>"),
        ("a\nb", "<p>a<br>b</p>"),
        ("<b>a</b> & &lt;", "<p>&lt;b&gt;a&lt;/b&gt; &amp; &lt;</p>"),
        ("<div>\n  a\n</div>", "<p>&lt;div&gt;\n  a\n&lt;/div&gt;</p>"),
        ("- [ ] a\n- [x] b", "<ul><li>☐ a</li><li>☑ b</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("$a_1 * b_2 * c$ for $5 and $6", "<p>$a_1 * b_2 * c$ for $5 and $6</p>"),
        ("\\(a *b* \\\\\\) *c*", "<p>\\(a *b* \\\\\\) <em>c</em></p>"),
        ("\\[\na\n- b\n\\]", "<p>\\[\na\n- b\n\\]</p>"),
        ("> a\n>\n> - b", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>"),
        ("&copy; &amp;copy; &#42;a&#42;", "<p>© &amp;copy; *a*</p>"),
        ("[a](/b) [c](#d)", "<p>a c</p>"),
        ("a\r\nb\r\rc", "<p>a<br>b</p><p>c</p>"),
    ],
)
def test_what_a_text_becomes(markdown: MarkdownPage, source: str, html: str) -> None:
    markdown.show(source)
    assert markdown.evaluate(
        """() => {
            for (const node of target.querySelectorAll("*")) {
                for (const name of ["dir", "class"]) node.removeAttribute(name);
            }
            return target.innerHTML.replace(/<\\/?div>|\\n(?=<|$)/g, "");
        }"""
    ) == html.replace("\n<", "<")


def test_what_is_done_stays_the_same_nodes(markdown: MarkdownPage) -> None:
    """A person's selection, and how far they scrolled in code, survive what follows."""
    source = "First **words** here.\n\n```python\nx = " + "1 + " * 200 + "\n"
    markdown.show(source, streaming=True)
    kept: Any = markdown.evaluate(
        """async (source) => {
            const paragraph = target.querySelector("p");
            getSelection().selectAllChildren(paragraph.querySelector("strong"));
            const pre = target.querySelector("pre");
            pre.scrollLeft = 200;
            for (let i = 0; i < 60; i++) {
                view.update(source + "y = 2\\n".repeat(i), { streaming: true });
            }
            view.update(source + "y = 2\\n```\\n\\nThe end, with a [link](https://x.example).");
            await new Promise(requestAnimationFrame);
            return [
                getSelection().toString(), paragraph === target.querySelector("p"),
                pre === target.querySelector("pre"), pre.scrollLeft,
                pre.querySelectorAll(".hljs-number").length,
            ];
        }""",
        source,
    )
    assert kept == ["words", True, True, 200, 201]


def test_the_last_block_grows_in_place(markdown: MarkdownPage) -> None:
    begin = "| a | b |\n|---|---|\n| " + "x" * 300 + " | y |\n"
    markdown.page.set_viewport_size({"width": 360, "height": 640})
    markdown.show(begin, streaming=True)
    assert markdown.evaluate(
        """async (begin) => {
            const frame = target.querySelector(".table");
            await new Promise(requestAnimationFrame);
            frame.scrollLeft = 50;
            getSelection().selectAllChildren(target.querySelector("th"));
            view.update(begin + "| c | d |\\n", { streaming: true });
            view.update(begin + "| c | d |\\n| e", { streaming: true });
            return [frame.isConnected, frame.scrollLeft, getSelection().toString(),
                target.querySelectorAll("tbody tr").length];
        }""",
        begin,
    ) == [True, 50, "a", 3]


def test_code_is_coloured_while_it_comes(markdown: MarkdownPage) -> None:
    markdown.show("```js\nconst a = 1;\nconst b", streaming=True)
    assert markdown.view.locator(".hljs-keyword").count() == 2
    markdown.show("```js\nconst a = 1;\nconst b = 2; const c = 3", streaming=True)
    assert markdown.view.locator(".hljs-keyword").count() == 2  # until a line is whole
    markdown.show("```js\nconst a = 1;\nconst b = 2; const c = 3;\nd", streaming=True)
    assert markdown.view.locator(".hljs-keyword").count() == 3
    markdown.show("```js\n" + "const a = 1;\n" * 5_000 + "```")  # too long for colours
    assert markdown.view.locator(".hljs-keyword").count() == 0
    assert len(markdown.view.locator("code").text_content() or "") == 13 * 5_000 - 1


def test_long_lines_of_code_have_no_colours(markdown: MarkdownPage) -> None:
    markdown.show(f"```js\nconst a = '{'x' * 900}';\n```")
    assert markdown.view.locator(".hljs-keyword").count() == 1
    markdown.show(f"```js\nconst a = '{'x' * 1_100}';\n```")
    assert markdown.view.locator(".hljs-keyword").count() == 0


@pytest.mark.parametrize(
    "source",
    [
        "\\!" * 2_000 + " **a**",
        f"a{' ' * 10_000}b **a**",
        f"**a** http://{'x' * 3_100}",
        f"|{'**a**|' * 90}\n|{'-|' * 90}\n" + "|\n" * 2_000,
    ],
    ids=["stops", "gap", "address", "cells"],
)
def test_what_takes_the_square_of_its_length_stays_text(
    markdown: MarkdownPage, source: str
) -> None:
    markdown.show(source)
    assert "a" in markdown.view.inner_text()
    assert markdown.view.locator("a, table").count() == 0
    markdown.show("**a** http://x.example\n\n|a|\n|-|\n|1|")
    assert markdown.view.locator("a, table, strong").count() == 3


@pytest.mark.parametrize("host", ["127.0.0.1", FOREIGN_HOST])
def test_code_is_copied(open_page: OpenPage, quiet_url: str, host: str) -> None:
    """A page of another host by http has no secure context, and so no clipboard of its own."""
    url = quiet_url.replace("127.0.0.1", host)
    markdown = MarkdownPage(open_page(permissions=["clipboard-read", "clipboard-write"]), url)
    assert markdown.evaluate("isSecureContext") is (host == "127.0.0.1")
    code = 'if a < b:\n\tprint("ñ  & 😀") \n\n    # end'
    markdown.show(f"Words.\n\n```python\n{code}\n```\n\nMore.")
    markdown.evaluate("getSelection().selectAllChildren(target.querySelector('p'))")
    button = markdown.page.get_by_role("button", name="Copy")
    button.focus()
    button.press("Enter")
    markdown.page.get_by_role("button", name="Copied").wait_for()
    assert markdown.page.get_by_role("status").inner_text() == "Copied"
    assert markdown.evaluate("document.activeElement.className") == "quiet small copy"
    assert markdown.evaluate("getSelection().toString()").strip() == "Words."
    markdown.page.get_by_role("button", name="Copy", exact=True).wait_for()
    markdown.evaluate(
        """() => {
            const field = document.createElement("textarea");
            field.id = "field";
            target.after(field);
            field.focus();
        }"""
    )
    markdown.page.keyboard.press("Control+V")
    assert markdown.page.locator("#field").input_value() == code
    markdown.check()


def test_a_failed_copy_is_said(markdown: MarkdownPage) -> None:
    markdown.evaluate("""() => {
        navigator.clipboard.writeText = () => Promise.reject(new Error("no"));
        document.execCommand = () => false;
    }""")
    markdown.show("```\nx\n```")
    markdown.page.get_by_role("button", name="Copy").click()
    markdown.page.get_by_role("button", name="Could not be copied").wait_for()


def test_another_language_changes_every_word(markdown: MarkdownPage) -> None:
    markdown.page.set_viewport_size({"width": 360, "height": 640})
    source = f"![x](https://x.example/y)\n\n```js\n{LONG}\n```\n\n| {LONG} |\n|---|\n| 1 |"
    markdown.show(source)
    markdown.evaluate("view.setWords(words.es)")
    markdown.page.get_by_role("button", name="Copiar").wait_for()
    assert "Imagen: x" in markdown.view.inner_text()
    markdown.page.get_by_role("group", name="Código: js").wait_for()
    markdown.page.get_by_role("group", name="Tabla").wait_for()


def test_the_keyboard_reaches_what_scrolls_and_nothing_else(markdown: MarkdownPage) -> None:
    markdown.page.set_viewport_size({"width": 360, "height": 640})
    markdown.show(f"```\nshort\n```\n\n```js\n{LONG}\n```\n\n| {LONG} |\n|---|\n| 1 |\n\n|a|\n|-|")
    markdown.page.get_by_role("group", name="Code: js").wait_for()
    markdown.page.get_by_role("group", name="Table").wait_for()
    assert markdown.view.locator("[tabindex]").count() == 2
    markdown.page.get_by_role("group", name="Code: js").focus()
    markdown.page.keyboard.press("End")
    markdown.page.keyboard.press("ArrowRight")
    until(lambda: markdown.evaluate("target.querySelectorAll('pre')[1].scrollLeft > 0"))
    markdown.page.set_viewport_size({"width": 6_000, "height": 640})
    until(lambda: markdown.evaluate("!target.querySelector('[tabindex]')"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_can_be_read(markdown: MarkdownPage, theme: str) -> None:
    markdown.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    markdown.show(WHOLE + LANGUAGES)
    kinds = markdown.evaluate(
        "() => [...new Set([...target.querySelectorAll('[class^=hljs]')].map((n) => n.className))]"
    )
    assert len(kinds) > 20, kinds
    assert markdown.evaluate(pages.POOR_CONTRAST) == []


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_sticks_out_and_a_screen_reader_can_read_it(
    open_page: OpenPage, quiet_url: str, width: int
) -> None:
    markdown = MarkdownPage(open_page(width=width, bypass_csp=True), quiet_url)
    markdown.show(f"{WHOLE}\n\n{LANGUAGES}\n\n{LONG * 3} `{LONG}` https://x.example/{LONG}")
    assert markdown.evaluate(pages.TOO_WIDE) == []
    markdown.page.evaluate("() => new Promise(requestAnimationFrame)")
    markdown.page.add_script_tag(path=str(AXE))
    found = markdown.evaluate("async () => (await axe.run('#view')).violations")
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


def test_words_from_right_to_left_begin_at_the_right(markdown: MarkdownPage) -> None:
    markdown.show("- مرحبا\n- عنصر\n\nword مرحبا\n\n> שלום\n\n123 שלום")
    directions = markdown.evaluate(
        """() => ["ul", "li", "p", "blockquote", "blockquote p", ".block:last-child p"].map(
            (name) => getComputedStyle(target.querySelector(name)).direction)"""
    )
    assert directions == ["rtl", "rtl", "ltr", "rtl", "rtl", "rtl"]
