"""Text that arrives in parts, for parsers that are generators. Knows no syntax."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TypeVar

_BLANKS = re.compile(r"\s+")
T = TypeVar("T")
Wait = Generator[None, None, T]
"""A parser: it yields when it has read all that has arrived, and returns its result."""


class Source:
    """The text that a parser reads, one character ahead."""

    def __init__(self, text: str = "", *, ended: bool = False) -> None:
        self._text = text
        self._at = 0
        self._ended = ended
        self._kept: list[str] | None = None

    def push(self, text: str) -> None:
        """Appends what has arrived."""
        self._text = self._text[self._at :] + text
        self._at = 0

    def end(self) -> None:
        """Records that nothing follows."""
        self._ended = True

    def peek(self) -> Wait[str]:
        """Waits for the next character and returns it; empty at the end of the text."""
        while self._at == len(self._text):
            if self._ended:
                return ""
            yield
        return self._text[self._at]

    def first(self) -> Wait[str]:
        """Skips blanks. Then as `peek`."""
        while (first := (yield from self.peek())).isspace():
            self.run(_BLANKS)
        return first

    def all(self, pattern: re.Pattern[str]) -> Wait[str]:
        """Takes all characters that match one by one, also those that arrive later."""
        parts = []
        while pattern.match((yield from self.peek())):
            parts.append(self.run(pattern))
        return "".join(parts)

    def skip(self) -> str:
        """Takes the character that `peek` has returned."""
        self._at += 1
        return self._take(self._text[self._at - 1])

    def run(self, pattern: re.Pattern[str]) -> str:
        """Takes the characters that match here, of those that have arrived; maybe none."""
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return self._take(found[0])

    def keep(self) -> None:
        """Keeps what is taken from now on, for `kept`."""
        self._kept = []

    def kept(self) -> str:
        """Returns what was taken since `keep`, and keeps no more."""
        text, self._kept = "".join(self._kept or ()), None
        return text

    def _take(self, text: str) -> str:
        if self._kept is not None:
            self._kept.append(text)
        return text
