"""The sentences that programs of this project print, by their literals in the sources: none is of a
kind that people have stumbled over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models import ROOT

PACKAGES = ("sheily_server", "sheily_native", "tools")
C_SUFFIXES = (".cpp", ".h")
C_LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')

PLAIN = {
    "'is no file' for 'is not a file'": re.compile(
        r"(?<!there )(?<!There )\b(?:is|are) no (?!longer\b|more\b)[a-z]+\b"
    ),
    "two full stops": re.compile(r"(?<![./])\.\.(?![./])"),
    "msgspec's or Python's words": re.compile(r"\bInvalid (?:enum )?value\b|\bgot `"),
}


def literals(path: Path) -> Iterator[str]:
    """A file's strings, those with fields as `{}`, without documentation and what is never printed:
    names and patterns."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from C_LITERAL.findall(text)
        return
    tree = ast.parse(text)
    not_said: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            not_said.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            not_said |= {id(part) for part in node.values}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile":
            not_said |= {id(argument) for argument in node.args}
    for node in ast.walk(tree):
        if id(node) in not_said:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


SOURCES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*"))
    if path.suffix in (".py", *C_SUFFIXES)
]


def test_there_are_sources_of_both_kinds() -> None:
    assert {path.suffix for path in SOURCES} == {".py", *C_SUFFIXES}
    assert sum(1 for path in SOURCES for _ in literals(path)) > 1000


@pytest.mark.parametrize("kind", PLAIN)
def test_sentences_are_plain(kind: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {literal!r}"
        for path in SOURCES
        for literal in literals(path)
        if " " in literal and PLAIN[kind].search(literal)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("kind", "bad", "good"),
    [
        ("'is no file' for 'is not a file'", "{} is no file", "there is no file {}"),
        ("two full stops", "cannot listen: {}..", "loading ... ../models"),
        ("msgspec's or Python's words", "Invalid value {}", "{} is not one of {}"),
    ],
)
def test_the_patterns_tell_them_apart(kind: str, bad: str, good: str) -> None:
    assert PLAIN[kind].search(bad)
    assert not PLAIN[kind].search(good)
