"""Reads regular expressions of callers and writes them so that llguidance's Lark takes them. Pure;
one pass over the text."""

from __future__ import annotations

import re

from .tree import GrammarError

_GROUP = re.compile(r"\(\?(?::|P?<[A-Za-z_][A-Za-z0-9_]*>|[ims]*(?:-[ims]+)?[:)])")
_ESCAPED = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "/": r"\x2F", '"': r"\x22"}


def canonical(pattern: str) -> str:
    """Returns an expression that matches the same, without slashes, quotes and control characters.

    Classes are read as Python reads them: `[` and `&&` in a class are characters. Raises
    GrammarError for groups other than plain, named and flagged (`i`, `m`, `s`) ones. The compilers
    find out what else cannot be followed.
    """
    kept: list[str] = []
    at, class_from = 0, -1
    while at < len(pattern):
        sign = pattern[at]
        if sign == "\\":
            kept.append(_escape(pattern, at))
            at += 2
            continue
        if class_from >= 0:
            is_first = at == class_from
            if sign == "]" and not is_first:
                class_from = -1
            elif sign == "^" and is_first:
                class_from += 1
            elif sign in "[&~]":
                sign = f"\\{sign}"
        elif sign == "[":
            class_from = at + 1
        elif sign == "(" and pattern.startswith("(?", at) and _GROUP.match(pattern, at) is None:
            raise GrammarError(f"the group {pattern[at : at + 4]}… cannot be followed")
        kept.append(_plain(sign))
        at += 1
    return "".join(kept)


def _escape(pattern: str, at: int) -> str:
    if at + 1 == len(pattern):
        raise GrammarError("it ends with a backslash")
    sign = pattern[at + 1]
    is_as_it_is = sign.isprintable() and sign not in _ESCAPED
    return f"\\{sign}" if is_as_it_is else _plain(sign)


def _plain(sign: str) -> str:
    """Returns a sign that stands for itself, or for what it means to an expression."""
    if sign in _ESCAPED:
        return _ESCAPED[sign]
    return sign if sign.isprintable() else "".join(f"\\x{{{ord(each):X}}}" for each in sign)
