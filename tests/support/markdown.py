"""Reads the project's Markdown: headings, code blocks, tables, links and anchors."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A fence with its language; a table row; a span of code; a target of a link; a number.
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
CELL = re.compile(r"(?<!\\)\|")
SPAN = re.compile(r"`[^`]+`")
QUOTED = re.compile(r'"[^"\n]+"')
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?!\w)")


@dataclass(frozen=True)
class Section:
    """A heading with what is below it; `level` counts its number signs."""

    level: int
    title: str
    body: str

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """Language and text of each code block."""
        return FENCE.findall(self.body)

    @property
    def prose(self) -> str:
        """The body without code blocks and tables."""
        return ROW.sub("", FENCE.sub("", self.body))

    @property
    def rows(self) -> list[list[str]]:
        """The cells of every table row, headers and rules among them."""
        rows = ROW.findall(FENCE.sub("", self.body))
        return [[cell.strip() for cell in CELL.split(row)[1:-1]] for row in rows]

    @property
    def entries(self) -> list[list[str]]:
        """The rows without headers and the rules below them."""
        rules = {i for i, row in enumerate(self.rows) if set("".join(row)) == {"-"}}
        headers = {i - 1 for i in rules}
        return [row for i, row in enumerate(self.rows) if i not in rules | headers]


def sections(name: str) -> list[Section]:
    found: list[Section] = []
    for part in re.split(r"(?=^#+ )", _comments_hidden(whole(name)), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        marks, _, title = heading.partition(" ")
        found.append(Section(len(marks), title, body.replace("\0", "#")))
    return found


def _comments_hidden(text: str) -> str:
    """A comment at the beginning of a line of code is no heading."""
    return FENCE.sub(lambda block: block[0].replace("#", "\0"), text)


def section(name: str, title: str) -> Section:
    """The section of a file under a heading."""
    [found] = [each for each in sections(name) if each.title == title]
    return found


def whole(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def spans(text: str) -> Counter[str]:
    return Counter(" ".join(span.split()) for span in SPAN.findall(text))


def numbers(text: str) -> Counter[str]:
    """Numbers outside of code; Spanish has a decimal comma."""
    return Counter(number.replace(",", ".") for number in NUMBER.findall(SPAN.sub("", text)))


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", title).lower())
    return kept.strip().replace(" ", "-")
