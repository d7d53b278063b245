"""Where conversations are kept in the browser: whole or not at all, in every tab, and with a reason
where the browser refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import dashboard
from tests.browser.conftest import OpenPage

if TYPE_CHECKING:
    from playwright.sync_api import Page

NOBODY = "http://127.0.0.1:9"
"""No LLM server is asked here."""

SET_UP = """async () => {
    const { MemoryStore, openStore } = await import("/data/store.js");
    window.openStore = openStore;
    window.MemoryStore = MemoryStore;
    window.conversation = (id, updated = 1, title = id) =>
        ({ id, title, named: false, created: 1, updated, leaf: null, options: {} });
    window.message = (id, of, text = "text") =>
        ({ id, conversation: of, parent: null, role: "user", created: 1, text });
    window.codeOf = async (promise) => {
        try {
            await promise;
            return null;
        } catch (error) {
            return error.code;
        }
    };
    window.all = async (search) => {
        const found = [];
        for await (const each of search) found.push(each);
        return found;
    };
}"""
OPEN = "async () => { window.store = await openStore(); }"


@pytest.fixture
def url(node: None) -> Iterator[str]:
    with dashboard.serving(NOBODY) as url:
        yield url


def tab_in(page: Page, url: str, opened: bool = True) -> Page:
    """The page at an address that has no store of its own open."""
    page.goto(f"{url}/icon.svg")
    page.evaluate(SET_UP)
    if opened:
        page.evaluate(OPEN)
    return page


@pytest.fixture
def page(open_page: OpenPage, url: str) -> Page:
    return tab_in(open_page(), url)


def test_what_is_written_is_there_after_a_reload(page: Page, url: str) -> None:
    page.evaluate(
        """() => store.write({
            conversations: [conversation("a", 1), conversation("b", 2)],
            messages: [message("m", "a"), message("n", "a"), message("o", "b")],
        })"""
    )
    page.evaluate("() => store.writeSetting('defaults', { top_k: 4 })")
    tab_in(page, url)
    ids = page.evaluate("async () => (await store.conversations()).map(({ id }) => id)")
    assert ids == ["b", "a"]
    assert len(page.evaluate("() => store.messages('a')")) == 2
    assert page.evaluate("() => store.setting('defaults')") == {"top_k": 4}
    page.evaluate("() => store.deleteConversation('a')")
    assert page.evaluate("() => store.messages('a')") == []
    assert len(page.evaluate("() => store.messages('b')")) == 1
    page.evaluate("() => store.deleteAll()")
    assert page.evaluate("() => store.conversations()") == []
    assert page.evaluate("() => store.messages('b')") == []


@pytest.mark.parametrize("record", ["{ id: 'x', f() {} }", "{ text: 'no id' }"])
def test_a_write_with_a_record_that_cannot_be_kept_writes_nothing(page: Page, record: str) -> None:
    code = page.evaluate(
        f"""() => codeOf(store.write({{
            conversations: [conversation("a")], messages: [message("m", "a"), {record}],
        }}))"""
    )
    assert code == "storage_failed"
    assert page.evaluate("() => store.conversations()") == []
    assert page.evaluate("() => store.messages('a')") == []


def test_a_page_that_ends_in_the_middle_of_a_write_leaves_all_or_nothing(
    page: Page, url: str
) -> None:
    writer = tab_in(page.context.new_page(), url)
    writer.evaluate(
        """() => {
            const text = "x".repeat(2_000);
            const round = async (n) => {
                const messages = [];
                for (let i = 0; i < 500; i += 1) {
                    messages.push(message(`m${i}`, "a", `${n} ${text}`));
                }
                await store.write({ conversations: [conversation("a", n)], messages });
                window.rounds = n;
                round(n + 1);
            };
            round(1);
        }"""
    )
    writer.wait_for_function("() => window.rounds >= 2")
    writer.close()
    kept = page.evaluate(
        """async () => {
            const messages = await store.messages("a");
            const rounds = new Set(messages.map(({ text }) => text.split(" ")[0]));
            return [messages.length, [...rounds], (await store.conversation("a")).updated];
        }"""
    )
    n, rounds, updated = kept
    assert n == 500
    assert rounds == [str(updated)]


def test_other_tabs_hear_of_changes_and_the_one_that_made_them_does_not(
    page: Page, url: str
) -> None:
    other = tab_in(page.context.new_page(), url)
    for each in (page, other):
        each.evaluate("() => { window.heard = []; store.onChange((c) => heard.push(...c.ids)); }")
    page.evaluate("() => store.write({ conversations: [conversation('a')] })")
    other.wait_for_function("() => heard.length === 1")
    other.evaluate("() => store.deleteConversation('a')")
    page.wait_for_function("() => heard.length === 1")
    assert [page.evaluate("heard"), other.evaluate("heard")] == [["a"], ["a"]]


def test_what_another_tab_has_deleted_does_not_come_back_with_a_growing_answer(
    page: Page, url: str
) -> None:
    other = tab_in(page.context.new_page(), url)
    page.evaluate(
        "() => store.write({ conversations: [conversation('a')], messages: [message('m', 'a')] })"
    )
    other.evaluate("() => store.deleteConversation('a')")
    page.evaluate("() => codeOf(store.write({ messages: [message('m', 'a', 'more')] }))")
    assert page.evaluate("() => store.messages('a')") == []


def test_a_full_disk_is_said_and_what_was_there_stays(open_page: OpenPage, url: str) -> None:
    page = open_page()
    devtools = page.context.new_cdp_session(page)
    # Before the first write: Chromium remembers for a while how much room there was.
    devtools.send("Storage.overrideQuotaForOrigin", {"origin": url, "quotaSize": 1_000_000})
    tab_in(page, url)
    page.evaluate("() => store.write({ conversations: [conversation('a')] })")
    code = page.evaluate(
        """() => codeOf(store.write({
            conversations: [conversation("b")],
            messages: [message("m", "b", "text ".repeat(1_000_000))],
        }))"""
    )
    assert code == "storage_full"
    assert len(page.evaluate("() => store.conversations()")) == 1


def test_a_store_that_goes_away_under_the_page_is_said(page: Page) -> None:
    page.evaluate("() => store.write({ conversations: [conversation('a')] })")
    page.evaluate(
        """() => new Promise((resolve, reject) => {
            const request = indexedDB.deleteDatabase("sheily");
            request.onsuccess = resolve;
            request.onerror = reject;
        })"""
    )
    write = "() => codeOf(store.write({ conversations: [conversation('a')] }))"
    assert page.evaluate(write) == "storage_lost"
    assert page.evaluate("() => codeOf(store.conversations())") == "storage_lost"


def test_a_store_that_the_browser_clears_is_said(page: Page, url: str) -> None:
    page.evaluate("() => store.write({ conversations: [conversation('a')] })")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Storage.clearDataForOrigin", {"origin": url, "storageTypes": "indexeddb"})
    write = "() => codeOf(store.write({ conversations: [conversation('a')] }))"
    assert page.evaluate(write) == "storage_lost"


def test_a_store_of_a_newer_page_is_left_alone(open_page: OpenPage, url: str) -> None:
    page = tab_in(open_page(), url, opened=False)
    page.evaluate(
        """() => new Promise((resolve) => {
            const request = indexedDB.open("sheily", 99);
            request.onsuccess = () => resolve(request.result.close());
        })"""
    )
    assert page.evaluate("() => codeOf(openStore())") == "storage_newer"
    found = page.evaluate("async () => (await indexedDB.databases()).map((d) => d.version)")
    assert found == [99]


@pytest.mark.parametrize(
    "refusing",
    [
        "null",
        "{ open() { throw new DOMException('no', 'SecurityError'); } }",
        """{ open() {
            const request = { error: new DOMException("no", "InvalidStateError") };
            setTimeout(() => request.onerror({ target: request }));
            return request;
        } }""",
    ],
)
def test_a_browser_that_keeps_nothing_is_said(open_page: OpenPage, url: str, refusing: str) -> None:
    page = tab_in(open_page(), url, opened=False)
    code = page.evaluate(f"() => codeOf(openStore({{ indexedDB: {refusing} }}))")
    assert code == "storage_unavailable"


def test_a_search_of_ten_thousand_messages_lets_the_page_go_on(page: Page) -> None:
    found = page.evaluate(
        """async () => {
            const text = "una frase cualquiera que no dice nada. ".repeat(50);
            const conversations = [];
            const messages = [];
            for (let c = 0; c < 100; c += 1) {
                conversations.push(conversation(`c${c}`, c));
                for (let i = 0; i < 100; i += 1) {
                    const last = c === 0 && i === 99 ? "El LEÓN ruge" : text;
                    messages.push(message(`m${c}-${i}`, `c${c}`, last));
                }
            }
            await store.write({ conversations, messages });
            let turns = 0;
            let searching = true;
            const turn = () => {
                turns += 1;
                if (searching) setTimeout(turn);
            };
            turn();
            const found = await all(store.search("leon"));
            searching = false;
            return [found.map(({ snippet }) => snippet), turns];
        }"""
    )
    snippets: list[Any]
    snippets, turns = found
    assert snippets == [["El ", "LEÓN", " ruge"]]
    assert turns > 10
