"""The parts of a grammar, and how they are written in llguidance's Lark. Knows no notation of
callers.

Nothing of a caller's text reaches llguidance as it is. What this file cannot write, no caller can
say: tokens by name or number, options of the library, grammars inside grammars. llguidance
documents its Lark at https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MOST_LEVELS = 20
"""Levels of brackets in a grammar. llguidance takes 30, and this server adds some of its own."""
MOST_PARTS = 5000
"""Parts of a grammar."""


class GrammarError(ValueError):
    """Raised for a grammar that cannot be read; the message says what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class Text:
    """These characters."""

    text: str
    any_case: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression, as `patterns.canonical` returns it. `flags` are of "is"."""

    regex: str
    flags: str = ""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of these ranges, or, `negated`, one of no range."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """Another rule."""

    name: str


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part `least` to `most` times; None means any number of times."""

    part: Part
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Both:
    """What each of the parts matches. In terminals only."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Any text but what the part matches. In terminals only."""

    part: Part


Part = Text | Pattern | Chars | Name | Sequence | Choice | Repeat | Both | Not
EMPTY = Text("")


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules by name, and the one that an answer follows. `terminals` are those that are one piece
    for the lexer, like an expression. `ignored` may stand between any two pieces."""

    rules: Mapping[str, Part]
    start: str
    terminals: frozenset[str] = frozenset()
    ignored: tuple[Part, ...] = ()


def children(part: Part) -> tuple[Part, ...]:
    if isinstance(part, Sequence | Both):
        return part.parts
    if isinstance(part, Choice):
        return part.options
    return (part.part,) if isinstance(part, Repeat | Not) else ()


def names_in(part: Part) -> Iterator[str]:
    """Yields the names in a part, some of them several times."""
    todo = [part]
    while todo:
        one = todo.pop()
        if isinstance(one, Name):
            yield one.name
        todo += children(one)


def check(rules: Rules) -> None:
    """Raises GrammarError for a name without a rule, or too many parts."""
    n_parts = 0
    todo = [*rules.rules.values(), *rules.ignored]
    while todo:
        part = todo.pop()
        n_parts += 1
        if n_parts > MOST_PARTS:
            raise GrammarError(f"it has more than {MOST_PARTS} parts")
        if isinstance(part, Name) and part.name not in rules.rules:
            raise GrammarError(f"there is no rule {part.name[:100]!r}")
        todo += children(part)
    if rules.start not in rules.rules:
        raise GrammarError(f"there is no rule {rules.start!r}, which an answer would follow")


def written(rules: Rules, prefix: str) -> tuple[str, str]:
    """Returns the name of the first rule, and lines with all rules. The names begin with `prefix`,
    in upper case for terminals."""
    names = _names(rules, prefix)
    lines = [f"{names[name]}: {_options(part, names)}" for name, part in rules.rules.items()]
    lines += [f"%ignore {_options(part, names)}" for part in rules.ignored]
    return names[rules.start], "\n".join(lines)


def _names(rules: Rules, prefix: str) -> dict[str, str]:
    """Returns a name for each rule that llguidance can read and that resembles the given one."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for i, name in enumerate(rules.rules):
        new = prefix + re.sub(r"[^a-z0-9]+", "_", name[:40].lower())
        new = new.upper() if name in rules.terminals else new
        while new in taken:
            new += f"_{i}"
        taken.add(new)
        found[name] = new
    return found


def _options(part: Part, names: Mapping[str, str]) -> str:
    if isinstance(part, Choice):
        return " | ".join(_sequence(option, names) for option in part.options)
    return _sequence(part, names)


def _sequence(part: Part, names: Mapping[str, str]) -> str:
    if isinstance(part, Both):
        return " & ".join(_atom(each, names) for each in part.parts)
    if isinstance(part, Sequence):
        return " ".join(_atom(each, names) for each in part.parts) or '""'
    return _atom(part, names)


def _atom(part: Part, names: Mapping[str, str]) -> str:
    if isinstance(part, Text):
        return quoted(part.text) + ("i" if part.any_case and part.text else "")
    if isinstance(part, Pattern):
        return f"/{part.regex}/{part.flags}" if part.regex else '""'
    if isinstance(part, Chars):
        return f"/{_class(part)}/"
    if isinstance(part, Name):
        return names[part.name]
    if isinstance(part, Repeat):
        return _repeat(part, names)
    if isinstance(part, Not):
        # llguidance's own negation allows bytes that are no text, and so control tokens.
        return f"(/(?s:.)*/ & ~{_atom(part.part, names)})"
    return f"({_options(part, names)})"


def _repeat(part: Repeat, names: Mapping[str, str]) -> str:
    if part.most == 0:
        return '""'
    inner = _atom(part.part, names)
    if isinstance(part.part, Repeat):
        inner = f"({inner})"
    sign = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((part.least, part.most))
    most = "" if part.most is None else part.most
    return inner + (sign or f"{{{part.least},{most}}}")


def quoted(text: str) -> str:
    """Returns the literal of a text."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def _class(chars: Chars) -> str:
    if not chars.ranges:
        return "(?s:.)" if chars.negated else "[^\\x{0}-\\x{10FFFF}]"
    ranges = "".join(
        f"\\x{{{low:X}}}" + (f"-\\x{{{high:X}}}" if high > low else "")
        for low, high in chars.ranges
    )
    return f"[{'^' if chars.negated else ''}{ranges}]"
