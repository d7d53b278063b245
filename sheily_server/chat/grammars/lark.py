"""Reads grammars in Lark, as far as they say which texts are allowed.

The notation is described at https://lark-parser.readthedocs.io/en/stable/grammar.html, and what
llguidance adds at https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md. What only
shapes trees (aliases, priorities, `?` and `!` before names) is read over.
"""

from __future__ import annotations

import re

from .patterns import canonical
from .scanning import COUNTS, Scanner, Token, code_point, kinds
from .tree import (
    EMPTY,
    MOST_LEVELS,
    Both,
    Chars,
    Choice,
    GrammarError,
    Name,
    Not,
    Part,
    Pattern,
    Repeat,
    Rules,
    Sequence,
    Text,
)

START = "start"

_KINDS = kinds(
    blank=r"[ \t\r]+|(?://|\#)[^\n]*",
    line=r"\n",
    regex=r"/(?:\\.|[^/\\\n])+/[a-z]*",
    text=r'"(?:\\.|[^"\\\n])*"i?',
    arrow=r"->",
    to=r"\.\.",
    options=r"%llguidance[ \t]*(?:\{[ \t\n]*\})?",
    directive=r"%[a-z]+",
    name=r"[!?]{0,2}_?[A-Za-z](?:[A-Za-z0-9_]|-(?!>))*",
    number=r"[0-9]{1,9}(?![0-9])",
    control=r"<[^<>\s]+>",
    grammar=r"@[A-Za-z0-9_-]+",
    sign=r"::|[:|()\[\]{}*+?~&.,]",
)
_FLAGS = frozenset("isu")
_ENDS = frozenset(("|", ")", "]", "&"))

_DIGITS, _EXPONENT = "[0-9]+", r"[eE][+\-]?[0-9]+"
_FLOAT = rf"(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:{_EXPONENT})?|[0-9]+{_EXPONENT}"
COMMON = {
    "DIGIT": "[0-9]",
    "HEXDIGIT": "[0-9a-fA-F]",
    "INT": _DIGITS,
    "SIGNED_INT": rf"[+\-]?{_DIGITS}",
    "DECIMAL": r"[0-9]+\.[0-9]*|\.[0-9]+",
    "FLOAT": _FLOAT,
    "SIGNED_FLOAT": rf"[+\-]?(?:{_FLOAT})",
    "NUMBER": rf"{_FLOAT}|{_DIGITS}",
    "SIGNED_NUMBER": rf"[+\-]?(?:{_FLOAT}|{_DIGITS})",
    "ESCAPED_STRING": r"\x22(?:[^\x22\\\n]|\\[^\n])*\x22",
    "LCASE_LETTER": "[a-z]",
    "UCASE_LETTER": "[A-Z]",
    "LETTER": "[a-zA-Z]",
    "WORD": "[a-zA-Z]+",
    "CNAME": "[a-zA-Z_][a-zA-Z0-9_]*",
    "WS_INLINE": r"[ \t]+",
    "WS": r"[ \t\f\r\n]+",
    "CR": r"\r",
    "LF": r"\n",
    "NEWLINE": r"(?:\r?\n)+",
}
"""What the terminals of Lark's `common` match."""


def read(text: str) -> Rules:
    """Returns the rules of a grammar. Raises GrammarError."""
    return _Reader(Scanner(text, _KINDS)).rules()


class _Reader:
    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        tokens = [token for token in scanner.tokens() if token.kind != "blank"]
        # An option on a line of its own goes on with the line before it.
        self._tokens = [
            token
            for token, text in zip(tokens, _behind_lines(tokens), strict=True)
            if token.kind != "line" or text != "|"
        ]
        self._at = 0
        self._rules: dict[str, Part] = {}
        self._ignored: list[Part] = []

    def rules(self) -> Rules:
        while (token := self._peek()) is not None:
            if token.kind == "line":
                self._at += 1
                continue
            if token.kind == "name":
                self._rule()
            else:
                self._statement()
            if self._peek() is not None:
                self._expect_line()
        terminals = frozenset(filter(_is_terminal, self._rules))
        return Rules(self._rules, START, terminals, tuple(self._ignored))

    def _rule(self) -> None:
        token = self._next()
        name = self._name(token)
        if self._is("::"):
            raise self._error("rules with parameters are not taken")
        if self._is("["):
            raise self._error("attributes of rules, such as lazy or stop, are not taken")
        if self._is("{"):
            raise self._error("templates are not taken")
        if self._take("."):
            self._number()
        self._expect(":")
        self._add(name, self._options(0, _is_terminal(name)), token)

    def _add(self, name: str, part: Part, token: Token) -> None:
        if name in self._rules:
            raise self._scanner.error(f"there are two rules {name[:100]!r}", token)
        self._rules[name] = part

    def _statement(self) -> None:
        token = self._next()
        if token.kind == "options":
            if "{" not in token.text:
                raise self._scanner.error("options of llguidance are not taken", token)
        elif token.text == "%ignore":
            self._ignored.append(self._options(0, terminal=True))
        elif token.text == "%import":
            self._import()
        elif token.kind == "directive":
            raise self._scanner.error(f"{token.text[:40]} is not taken", token)
        else:
            raise self._scanner.error(f"{token.text[:40]!r} begins no rule", token)

    def _import(self) -> None:
        library = self._next()
        if library.text != "common":
            raise self._scanner.error("only the terminals of common can be imported", library)
        if self._take("("):
            self._import_one(self._next())
            while self._take(","):
                self._import_one(self._next())
            self._expect(")")
            return
        self._expect(".")
        name = self._next()
        alias = name
        if (token := self._peek()) is not None and token.kind == "arrow":
            self._at += 1
            alias = self._next()
        self._import_one(name, alias)

    def _import_one(self, token: Token, alias: Token | None = None) -> None:
        regex = COMMON.get(token.text)
        if regex is None:
            raise self._scanner.error(f"common has no {token.text[:40]!r} here", token)
        name = self._name(alias or token)
        if not _is_terminal(name):
            raise self._scanner.error("a terminal's name is in upper case", alias)
        if self._rules.get(name) != Pattern(regex):
            self._add(name, Pattern(regex), token)

    def _name(self, token: Token) -> str:
        """Returns the name of a rule in lower case, or of a terminal in upper case."""
        name = token.text.lstrip("!?")
        if token.kind != "name" or not (name.islower() or name.isupper()):
            raise self._scanner.error(
                f"{token.text[:40]!r} is not a name: rules are in lower case, terminals in upper "
                "case",
                token,
            )
        return name

    def _options(self, level: int, terminal: bool) -> Part:
        options = [self._both(level, terminal)]
        while self._take("|", over_lines=level > 0):
            options.append(self._both(level, terminal))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _both(self, level: int, terminal: bool) -> Part:
        parts = [self._sequence(level, terminal)]
        while self._is("&"):
            if not terminal:
                raise self._error("& is for terminals, named in upper case")
            self._at += 1
            parts.append(self._sequence(level, terminal))
        if (token := self._peek()) is not None and token.kind == "arrow":
            self._at += 1
            self._next()
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _sequence(self, level: int, terminal: bool) -> Part:
        parts: list[Part] = []
        while (token := self._peek()) is not None:
            if token.kind == "line" and level:
                self._at += 1
                continue
            if token.kind in ("line", "arrow") or (token.kind == "sign" and token.text in _ENDS):
                break
            parts.append(self._repeated(self._one(level, terminal)))
        if len(parts) == 1:
            return parts[0]
        return Sequence(tuple(parts)) if parts else EMPTY

    def _one(self, level: int, terminal: bool) -> Part:
        token = self._next()
        if token.kind == "name":
            name = self._name(token)
            if terminal and not _is_terminal(name):
                raise self._scanner.error(f"a terminal cannot have the rule {name[:100]!r}", token)
            return Name(name)
        if token.kind == "text":
            return self._text(token)
        if token.kind == "regex":
            return self._regex(token)
        if token.text in ("(", "["):
            return self._group(token, level, terminal)
        if token.text == "~":
            if not terminal:
                raise self._scanner.error(
                    "~ is for terminals, whose names are in upper case", token
                )
            self._check_level(token, level)
            return Not(self._one(level + 1, terminal))
        if token.kind in ("control", "grammar"):
            raise self._scanner.error(
                f"a grammar cannot name tokens or other grammars, as {token.text[:40]} does", token
            )
        if token.kind in ("directive", "options"):
            raise self._scanner.error(f"{token.text[:40]} is not taken", token)
        raise self._scanner.error(f"{token.text[:40]!r} has no place here", token)

    def _check_level(self, token: Token, level: int) -> None:
        if level >= MOST_LEVELS:
            raise self._scanner.error(f"there are more than {MOST_LEVELS} levels", token)

    def _group(self, token: Token, level: int, terminal: bool) -> Part:
        self._check_level(token, level)
        inner = self._options(level + 1, terminal)
        while (line := self._peek()) is not None and line.kind == "line":
            self._at += 1
        self._expect(")" if token.text == "(" else "]")
        return inner if token.text == "(" else Repeat(inner, 0, 1)

    def _text(self, token: Token) -> Part:
        text = _unquoted(self._scanner, token)
        following = self._peek()
        if following is None or following.kind != "to":
            return Text(text, any_case=token.text.endswith("i"))
        self._at += 1
        last = self._next()
        high = _unquoted(self._scanner, last) if last.kind == "text" else ""
        if not len(text) == len(high) == 1 or text > high:
            raise self._scanner.error("a range goes from one character to a later one", token)
        return Chars(((ord(text), ord(high)),))

    def _regex(self, token: Token) -> Part:
        regex, _, flags = token.text[1:].rpartition("/")
        if not _FLAGS.issuperset(flags):
            raise self._scanner.error(
                f"the flags {flags[:20]!r} are not taken: only i and s", token
            )
        try:
            return Pattern(canonical(regex), "".join(sorted(set(flags) - {"u"})))
        except GrammarError as error:
            raise self._scanner.error(f"{error}", token) from None

    def _repeated(self, part: Part) -> Part:
        """Returns the part as often as the sign behind it says."""
        token = self._peek()
        if token is None or token.kind != "sign":
            return part
        if token.text in COUNTS:
            self._at += 1
            return Repeat(part, *COUNTS[token.text])
        if self._take("~"):
            least = most = self._number()
            if (to := self._peek()) is not None and to.kind == "to":
                self._at += 1
                most = self._number()
            return self._counted(part, least, most, token)
        if not self._take("{"):
            return part
        low = 0 if self._is(",") else self._number()
        high: int | None = low
        if self._take(","):
            high = None if self._is("}") else self._number()
        self._expect("}")
        return self._counted(part, low, high, token)

    def _counted(self, part: Part, least: int, most: int | None, token: Token) -> Part:
        if most is not None and most < least:
            raise self._scanner.error(f"{least} to {most} is not a range", token)
        return Repeat(part, least, most)

    def _number(self) -> int:
        token = self._next()
        if token.kind != "number":
            raise self._scanner.error("there is a number missing", token)
        return int(token.text)

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _is(self, sign: str) -> bool:
        token = self._peek()
        return token is not None and token.kind == "sign" and token.text == sign

    def _take(self, sign: str, over_lines: bool = False) -> bool:
        at = self._at
        while over_lines and (token := self._peek()) is not None and token.kind == "line":
            self._at += 1
        if self._is(sign):
            self._at += 1
            return True
        self._at = at
        return False

    def _next(self) -> Token:
        token = self._peek()
        if token is None:
            raise self._scanner.error("it ends too early")
        self._at += 1
        return token

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self._error(f"{sign!r} is missing")

    def _expect_line(self) -> None:
        token = self._next()
        if token.kind != "line":
            raise self._scanner.error(f"{token.text[:40]!r} has no place here", token)

    def _error(self, message: str) -> GrammarError:
        return self._scanner.error(message, self._peek())


def _is_terminal(name: str) -> bool:
    return name.isupper()


def _behind_lines(tokens: list[Token]) -> list[str]:
    """Returns, for each token, the text of the first one behind it that ends no line."""
    texts: list[str] = []
    text = ""
    for token in reversed(tokens):
        texts.append(text)
        if token.kind != "line":
            text = token.text
    return texts[::-1]


def _unquoted(scanner: Scanner, token: Token) -> str:
    """Returns the text of a literal."""
    inner = re.sub(r"i\Z", "", token.text) if token.text.endswith('"i') else token.text
    found: list[str] = []
    at, end = 1, len(inner) - 1
    while at < end:
        code, at = code_point(scanner, token, at)
        found.append(chr(code))
    return "".join(found)
