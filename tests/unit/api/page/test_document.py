"""The page: its languages, its examples, and the policy that a browser holds it to."""

from __future__ import annotations

import ast
import html
import json
import re
import shlex
from typing import Any

import pytest

from sheily_server.api.page import document
from sheily_server.api.page.negotiation import preferences
from sheily_server.api.page.routes import language, wants_page
from sheily_server.api.page.words import FIXED, LIVE, STATES, Language
from sheily_server.backend.health import STATES as ALL_STATES

ORIGIN = "http://127.0.0.1:8005"
NASTY = """a'b"c$(touch x)`y`<script>&\\é {}"""
LANGUAGES: list[Language] = ["en", "es"]


def page(lang: Language = "en", **facts: Any) -> str:
    usual: dict[str, Any] = {"origin": ORIGIN, "model": "m", "state": "ready", "needs_key": False}
    return document.render(lang, **(usual | facts)).decode()


def test_each_language_has_every_word() -> None:
    for table in (FIXED, LIVE, STATES):
        assert set(table) == set(LANGUAGES)
        assert table["en"].keys() == table["es"].keys()
    assert set(ALL_STATES) < set(STATES["en"])
    tables = [each for table in (FIXED, LIVE, STATES) for each in table.values()]
    assert all(words for table in tables for words in table.values())


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_in_a_language(lang: Language) -> None:
    text = page(lang, state="loading")
    assert f'<html lang="{lang}">' in text
    assert html.escape(STATES[lang]["loading"]) in text
    assert html.escape(FIXED[lang]["ask"]) in text
    assert "$" not in re.sub(r"(?s)<(style|script|pre).*?</\1>", "", text)


def test_the_policy_allows_this_script_and_this_style_alone() -> None:
    text = page()
    [script] = re.findall(r"(?s)<script>(.*?)</script>", text)
    [style] = re.findall(r"(?s)<style>(.*?)</style>", text)
    policy = document.HEADERS["Content-Security-Policy"]
    assert f"script-src {document._hash(script)}" in policy
    assert f"style-src {document._hash(style)}" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"\s(?:on\w+|style)=", text.replace(script, ""))
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:|//)""", text)
    assert len(text.encode()) < 16_000


def test_names_cannot_become_html() -> None:
    text = page(model=NASTY, origin="http://localhost")
    assert "<script>&" not in text
    assert html.escape(NASTY) in text
    assert b"?" in document.render(
        "en", origin=ORIGIN, model="\udcff", state="ready", needs_key=False
    )


@pytest.mark.parametrize("needs_key", [False, True])
@pytest.mark.parametrize("model", ["m", NASTY])
def test_curl_is_one_command_of_a_shell(model: str, needs_key: bool) -> None:
    text = document.curl(ORIGIN, model, "¿Qué?", needs_key)
    words = shlex.split(text.replace("\\\n", " "))
    assert words[:2] == ["curl", f"{ORIGIN}/v1/chat/completions"]
    assert ("Authorization: Bearer $LLM_API_KEY" in words) == needs_key
    body = json.loads(words[words.index("-d") + 1])
    assert body == {"model": model, "messages": [{"role": "user", "content": "¿Qué?"}]}


@pytest.mark.parametrize("needs_key", [False, True])
@pytest.mark.parametrize("model", ["m", NASTY])
def test_python_is_a_program(model: str, needs_key: bool) -> None:
    text = document.python(ORIGIN, model, 'a "b"', needs_key)
    literals = [each.value for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Constant)]
    assert {f"{ORIGIN}/v1", model, 'a "b"'} <= set(literals)
    assert ("os.environ" in text) == needs_key


def test_a_page_says_that_a_key_is_needed() -> None:
    assert html.escape(FIXED["en"]["needs_key"]) in page(needs_key=True)
    assert FIXED["en"]["needs_key"][:20] not in page()


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("", []),
        ("text/html", ["text/html"]),
        ("a;q=0.1, B, c;q=0.5", ["b", "c", "a"]),
        ("a;q=0, b;q=2, c;q=x, d;q=nan", []),
        ("en ; q=0.5 ,, es-ES;level=1", ["es-es", "en"]),
    ],
)
def test_preferences(header: str, names: list[str]) -> None:
    assert preferences(header) == names


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
    ],
)
def test_who_gets_the_page(accept: str, expected: bool) -> None:
    assert wants_page(accept) is expected


@pytest.mark.parametrize(
    ("chosen", "accepted", "expected"),
    [
        ("", "es-MX,es;q=0.9,en;q=0.8", "es"),
        ("", "de, es;q=0.3, en;q=0.7", "en"),
        ("", "de", "en"),
        ("", "", "en"),
        ("es", "en", "es"),
        ("xx", "es", "es"),
    ],
)
def test_the_reader_s_language(chosen: str, accepted: str, expected: str) -> None:
    assert language(chosen, accepted) == expected
