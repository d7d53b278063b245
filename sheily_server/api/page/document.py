"""Writes the page: its words in a language, examples that can be pasted, and what a browser may do
with it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shlex
from collections.abc import Mapping
from importlib import resources
from string import Template

from ...version import package_version
from .words import FIXED, LIVE, STATES, Language

_FILES = resources.files(__package__)
_HTML = Template(_FILES.joinpath("page.html").read_text(encoding="utf-8"))
_CSS = _FILES.joinpath("page.css").read_text(encoding="utf-8")
_JS = _FILES.joinpath("page.js").read_text(encoding="utf-8")
ICON = _FILES.joinpath("favicon.svg").read_bytes()
QUESTION = "What is the capital of Japan?"
"""In every language: the model of the first run knows English alone, and this."""


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; connect-src 'self'; img-src 'self'; "
    f"style-src {_hash(_CSS)}; script-src {_hash(_JS)}",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def render(language: Language, *, origin: str, model: str, state: str, needs_key: bool) -> bytes:
    """Returns the page in UTF-8. `origin` is where its reader found the server, such as
    `http://127.0.0.1:8005`."""
    words = FIXED[language]
    values = {
        **words,
        "lang": language,
        "other_lang": "en" if language == "es" else "es",
        "version": package_version(),
        "words": json.dumps({**LIVE[language], **STATES[language]}),
        "copy": LIVE[language]["copy"],
        "loading": STATES[language]["loading"],
        "origin": origin,
        "model": model,
        "state": state,
        "state_words": STATES[language].get(state, state),
        "curl": curl(origin, model, QUESTION, needs_key),
        "python": python(origin, model, QUESTION, needs_key),
        "npm": (
            f"npm --prefix dashboard ci && LLM_URL={shlex.quote(origin)} "
            "npm --prefix dashboard start"
        ),
    }
    escaped = {name: html.escape(value) for name, value in values.items()}
    escaped["needs_key"] = f"<p>{escaped['needs_key']}</p>" if needs_key else ""
    return _HTML.substitute(escaped, css=_CSS, js=_JS).encode("utf-8", "replace")


def curl(origin: str, model: str, question: str, needs_key: bool) -> str:
    """Returns a command for a shell that asks the question."""
    messages = f'[{{"role": "user", "content": {_literal(question)}}}]'
    body = f'{{"model": {_literal(model)},\n       "messages": {messages}}}'
    lines = [
        f"curl {shlex.quote(origin + '/v1/chat/completions')}",
        *(['-H "Authorization: Bearer $LLM_API_KEY"'] if needs_key else []),
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(body)}",
    ]
    return " \\\n  ".join(lines)


def python(origin: str, model: str, question: str, needs_key: bool) -> str:
    """Returns a program that asks the question with OpenAI's package."""
    key = 'os.environ["LLM_API_KEY"]' if needs_key else '"none"'
    return "\n".join(
        [
            *(["import os", ""] if needs_key else []),
            "from openai import OpenAI",
            "",
            f"client = OpenAI(base_url={_literal(origin + '/v1')}, api_key={key})",
            "answer = client.chat.completions.create(",
            f"    model={_literal(model)},",
            f'    messages=[{{"role": "user", "content": {_literal(question)}}}],',
            ")",
            "print(answer.choices[0].message.content)",
        ]
    )


def _literal(text: str) -> str:
    """Writes a text as JSON and Python both read it."""
    return json.dumps(text, ensure_ascii=False)
