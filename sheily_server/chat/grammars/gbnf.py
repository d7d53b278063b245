"""Reads grammars in GBNF, the notation of llama.cpp, with the names that xgrammar's EBNF has too.

The notation is described at https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from .scanning import COUNTS, Scanner, Token, code_point, kinds
from .tree import EMPTY, MOST_LEVELS, Chars, Choice, Name, Part, Repeat, Rules, Sequence, Text

ROOT = "root"

_KINDS = kinds(
    blank=r"[ \t\r\n]+|\#[^\n]*",
    becomes=r"::=",
    name=r"[A-Za-z0-9_-]+",
    text=r'"(?:\\.|[^"\\])*"',
    chars=r"\[(?:\\.|[^\]\\])*\]",
    count=r"\{\s*[0-9]{1,9}\s*(?:,\s*[0-9]{0,9}\s*)?\}",
    control=r"!?<[^<>\s]+>",
    sign=r"[|()*+?.]",
)


def read(text: str) -> Rules:
    """Returns the rules of a grammar. Raises GrammarError."""
    return _Reader(Scanner(text, _KINDS)).rules()


class _Reader:
    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._tokens = [token for token in scanner.tokens() if token.kind != "blank"]
        self._at = 0

    def rules(self) -> Rules:
        found: dict[str, Part] = {}
        while self._at < len(self._tokens):
            name = self._next()
            if name.kind != "name" or not self._is_becomes(0):
                raise self._scanner.error("a rule begins with its name and ::=", name)
            if name.text in found:
                raise self._scanner.error(f"there are two rules {name.text[:100]!r}", name)
            self._at += 1
            found[name.text] = self._options(0)
            if self._peek(")"):
                raise self._scanner.error("a bracket is closed that was not opened", self._next())
        return Rules(found, ROOT)

    def _options(self, level: int) -> Part:
        options = [self._sequence(level)]
        while self._peek("|"):
            self._at += 1
            options.append(self._sequence(level))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self, level: int) -> Part:
        parts: list[Part] = []
        while self._at < len(self._tokens) and not self._peek("|") and not self._peek(")"):
            if self._tokens[self._at].kind == "name" and self._is_becomes(1):
                break  # the next rule
            parts.append(self._repeated(self._one(level)))
        if len(parts) == 1:
            return parts[0]
        return Sequence(tuple(parts)) if parts else EMPTY

    def _one(self, level: int) -> Part:
        token = self._next()
        if token.kind == "name":
            return Name(token.text)
        if token.kind == "text":
            return Text("".join(chr(code) for code, _ in self._code_points(token)))
        if token.kind == "chars":
            return self._chars(token)
        if token.text == ".":
            return Chars((), negated=True)
        if token.kind == "control":
            raise self._scanner.error(
                f"a grammar cannot name tokens, as {token.text[:40]} does", token
            )
        if token.text != "(":
            raise self._scanner.error(f"{token.text[:40]!r} has no place here", token)
        if level >= MOST_LEVELS:
            raise self._scanner.error(f"there are more than {MOST_LEVELS} levels", token)
        inner = self._options(level + 1)
        if not self._peek(")"):
            raise self._scanner.error("a bracket is not closed", token)
        self._at += 1
        return inner

    def _repeated(self, part: Part) -> Part:
        """Returns the part as often as the signs behind it say."""
        n_signs = 0
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind == "count":
                least, comma, most = token.text.strip("{}").partition(",")
                counts: tuple[int, int | None] = (int(least), int(least))
                if comma:
                    counts = int(least), int(most) if most.strip() else None
            elif token.text in COUNTS:
                counts = COUNTS[token.text]
            else:
                break
            if counts[1] is not None and counts[1] < counts[0]:
                raise self._scanner.error(f"{token.text[:40]} is not a range", token)
            n_signs += 1
            if n_signs > 4:
                raise self._scanner.error("there are too many repetitions of one another", token)
            part = Repeat(part, *counts)
            self._at += 1
        return part

    def _chars(self, token: Token) -> Chars:
        """Reads a class of characters."""
        negated = token.text.startswith("[^")
        found = list(self._code_points(token, 2 if negated else 1))
        ranges: list[tuple[int, int]] = []
        at = 0
        while at < len(found):
            low = high = found[at][0]
            is_range = at + 2 < len(found) and found[at + 1] == (ord("-"), False)
            if is_range:
                high = found[at + 2][0]
            if high < low:
                raise self._scanner.error(f"{chr(low)}-{chr(high)} is not a range", token)
            ranges.append((low, high))
            at += 3 if is_range else 1
        return Chars(tuple(ranges), negated)

    def _code_points(self, token: Token, begin: int = 1) -> Iterator[tuple[int, bool]]:
        """Yields the characters of a literal, and whether each was escaped."""
        at, end = begin, len(token.text) - 1
        while at < end:
            escaped = token.text[at] == "\\"
            code, at = code_point(self._scanner, token, at)
            yield code, escaped

    def _is_becomes(self, ahead: int) -> bool:
        at = self._at + ahead
        return at < len(self._tokens) and self._tokens[at].kind == "becomes"

    def _peek(self, sign: str) -> bool:
        return (
            self._at < len(self._tokens)
            and self._tokens[self._at].kind == "sign"
            and self._tokens[self._at].text == sign
        )

    def _next(self) -> Token:
        if self._at == len(self._tokens):
            raise self._scanner.error("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]
