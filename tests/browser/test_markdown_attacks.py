"""Texts that would be HTML, scripts or requests are shown as text at every moment they come."""

from __future__ import annotations

from tests.browser.markdown_page import MarkdownPage
from tests.support.markdown_attacks import ATTACKS, ENORMOUS, PLACES

APPLE = "\u0430\u0440\u0440\u04cf\u0435"  # in Cyrillic letters
FOREIGN_NODES = """() => {
    const elements = new Set(
        "A BDI BLOCKQUOTE BR BUTTON CODE DEL DIV EM H3 H4 H5 H6 HR LI OL P PRE SPAN STRONG TABLE TBODY TD TH THEAD TR UL".split(" ")
    );
    const attributes = new Set(
        "align aria-label class data-label data-language dir href rel role start tabindex target title type".split(" ")
    );
    const classes = /^(block|plain|raw|task|code|head|language|language-.*|unseen|said|quiet|small|copy|scrolls|table|host|hljs-.*|.*_)$/;
    window.foreignNodes = (root) => [...root.querySelectorAll("*")].filter((node) =>
        !elements.has(node.nodeName)
        || node.namespaceURI !== "http://www.w3.org/1999/xhtml"
        || [...node.attributes].some(({ name }) => !attributes.has(name))
        || [...node.classList].some((name) => !classes.test(name))
        || (node.nodeName === "A" && !["http:", "https:", "mailto:"].includes(node.protocol))
        || (node.nodeName === "A" && node.rel !== "noopener noreferrer nofollow")
        || (node.nodeName === "BUTTON" && !node.matches(".code > .head > .copy[type=button]"))
    ).map((node) => node.outerHTML);
}"""  # noqa: E501
STREAM = """(attacks) => attacks.flatMap((source) => {
    fresh();
    const found = [];
    for (let i = 1; i <= source.length; i++) {
        view.update(source.slice(0, i), { streaming: true });
        found.push(...foreignNodes(target));
    }
    view.update(source);
    found.push(...foreignNodes(target));
    if (htmlOf(target) !== htmlOf(scratch(source))) found.push("another end: " + source);
    return found;
})"""
SHOW = """(sources) => sources.flatMap((source) => {
    view.update(source);
    return foreignNodes(target);
})"""
IN_TURN = """(source) => {
    fresh();
    for (const share of [0.5, 0.51, 0.9]) {
        view.update(source.slice(0, share * source.length), { streaming: true });
    }
    view.update(source);
    return { foreign: foreignNodes(target), length: target.textContent.length };
}"""


def test_nothing_of_an_attack_is_more_than_text_however_it_is_cut(markdown: MarkdownPage) -> None:
    markdown.evaluate(FOREIGN_NODES)
    assert len(ATTACKS) >= 150
    assert markdown.evaluate(STREAM, ATTACKS) == []


def test_an_attack_is_text_wherever_it_stands(markdown: MarkdownPage) -> None:
    markdown.evaluate(FOREIGN_NODES)
    sources = [place.replace("{}", attack) for attack in ATTACKS for place in PLACES]
    assert markdown.evaluate(SHOW, sources) == []


def test_attacks_one_behind_the_other_are_text(markdown: MarkdownPage) -> None:
    markdown.evaluate(FOREIGN_NODES)
    for gap in ("", " ", "\n", "\n\n", "\n\n- "):
        assert markdown.evaluate(SHOW, [gap.join(ATTACKS), gap.join(reversed(ATTACKS))]) == []


def test_the_check_of_these_tests_sees_what_it_looks_for(markdown: MarkdownPage) -> None:
    markdown.evaluate(FOREIGN_NODES)
    for name, attributes in (
        ("img", {}),
        ("form", {}),
        ("p", {"id": "x"}),
        ("p", {"hidden": ""}),
        ("p", {"class": "other"}),
        ("p", {"data-x": "x"}),
        ("a", {"href": "javascript:1", "rel": "noopener noreferrer nofollow"}),
        ("a", {"href": "https://x.example"}),
        ("button", {"type": "button", "class": "copy"}),
    ):
        script = """([name, attributes]) => {
            const node = document.createElement(name);
            for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
            const root = document.createElement("div");
            root.append(node);
            return foreignNodes(root).length;
        }"""
        assert markdown.evaluate(script, [name, attributes]) == 1, (name, attributes)


def test_enormous_texts_are_shown_whole(markdown: MarkdownPage) -> None:
    markdown.evaluate(FOREIGN_NODES)
    for source in ENORMOUS:
        shown = markdown.evaluate(IN_TURN, source)
        assert shown["foreign"] == [], source[:20]
        assert shown["length"] > 0 or not source.strip("\n#[]: ab`=-*_|>"), source[:20]


def test_a_link_shows_where_it_leads(markdown: MarkdownPage) -> None:
    for source, shown in (
        ("[x](https://evil.example/a)", "x (evil.example)"),
        ("[https://bank.example](https://evil.example/)", "https://bank.example (evil.example)"),
        ("[bank.example](https://bank.example/a?b)", "bank.example"),
        ("https://bank.example@evil.example/", "https://bank.example@evil.example/ (evil.example)"),
        (f"<https://{APPLE}.com/>", f"https://{APPLE}.com/ (xn--80ak6aa92e.com)"),
        ("[bank.example\u202e](https://evil.example)", "bank.example\u202e (evil.example)"),
        ("[b\u200bank.example](https://bank.example)", "b\u200bank.example (bank.example)"),
        ("[a@b.example](mailto:c@d.example)", "a@b.example (c@d.example)"),
        ("a@b.example", "a@b.example"),
        ("![x](https://evil.example/y.png)", "Image: x (evil.example)"),
        ("[![x](https://a.example/y.png)](https://b.example)", "Image: x (b.example)"),
    ):
        markdown.show(source)
        link = markdown.view.locator("a")
        assert link.inner_text() == shown, source
        assert link.get_attribute("title") == link.evaluate("(a) => a.href")


def test_a_text_turned_around_leaves_the_place_as_it_is(markdown: MarkdownPage) -> None:
    """Overrides of direction end before it: its letters stand from left to right."""
    for text in ("[\u202eelpmaxe.knab](https://evil.example)", "\u202e[x](https://evil.example)"):
        markdown.show(text)
        places = markdown.view.locator(".host").evaluate(
            """(host) => [...host.firstChild.data].map((_, i) => {
                const range = document.createRange();
                range.setStart(host.firstChild, i);
                range.setEnd(host.firstChild, i + 1);
                return range.getBoundingClientRect().left;
            })"""
        )
        assert places == sorted(places), text
        assert len(places) == len("(evil.example)")
