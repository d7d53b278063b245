"""Cuts the text of a grammar into tokens, and reads escapes. Knows no notation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .tree import GrammarError

COUNTS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
"""How often a part may be there, by the sign behind it: at least, and at most."""
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b"}
_LENGTHS = {"x": 2, "u": 4, "U": 8}
_HEX = frozenset("0123456789abcdefABCDEF")


class Token(NamedTuple):
    """A piece of a grammar, of the `kind` that the notation calls it, and where it begins."""

    kind: str
    text: str
    begin: int


def kinds(**expressions: str) -> re.Pattern[str]:
    """Returns an expression for tokens of these kinds. Of two that match, the first is taken."""
    return re.compile("|".join(f"(?P<{name}>{each})" for name, each in expressions.items()), re.S)


class Scanner:
    """Reads one grammar's tokens."""

    def __init__(self, text: str, expression: re.Pattern[str]) -> None:
        self._text = text
        self._expression = expression

    def tokens(self) -> Iterator[Token]:
        """Yields the tokens. Raises GrammarError at what is none."""
        at = 0
        while at < len(self._text):
            found = self._expression.match(self._text, at)
            if found is None:
                shown = self._text[at : at + 20]
                raise self.error(f"{shown!r} cannot be read", Token("", "", at))
            assert found.lastgroup
            yield Token(found.lastgroup, found[0], at)
            at = found.end()

    def error(self, message: str, token: Token | None = None) -> GrammarError:
        """Returns the error with the line of a token, or of the end."""
        end = len(self._text) if token is None else token.begin
        return GrammarError(f"line {self._text.count(chr(10), 0, end) + 1}: {message}")


def code_point(scanner: Scanner, token: Token, at: int) -> tuple[int, int]:
    """Returns the character at a place of a literal, and the place behind it. Raises GrammarError
    for an escape that is none, and for half a character."""
    text = token.text
    if text[at] != "\\":
        return ord(text[at]), at + 1
    sign = text[at + 1]
    length = _LENGTHS.get(sign)
    if length is None:
        if sign.isalnum() and sign not in _PLAIN:
            raise scanner.error(f"\\{sign} is not an escape", token)
        return ord(_PLAIN.get(sign, sign)), at + 2
    digits = text[at + 2 : at + 2 + length]
    if len(digits) < length or not _HEX.issuperset(digits):
        raise scanner.error(f"\\{sign} needs {length} hexadecimal digits", token)
    code = int(digits, 16)
    end = at + 2 + length
    if 0xD800 <= code < 0xDC00 and text[end : end + 2] == "\\u":
        low = text[end + 2 : end + 6]
        if len(low) == 4 and _HEX.issuperset(low) and 0xDC00 <= int(low, 16) < 0xE000:
            return 0x10000 + ((code - 0xD800) << 10) + int(low, 16) - 0xDC00, end + 6
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise scanner.error(f"{text[at:end]} is not a character", token)
    return code, end
