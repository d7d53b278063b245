"""Reads what a caller wants an answer to follow, in whatever notation, as lines of llguidance's
Lark. Bounded: in size, in levels, in parts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import gbnf, lark
from .endless import ending
from .lexemes import with_terminals
from .patterns import canonical
from .tree import GrammarError, check, quoted, written

MAX_BYTES = 64 * 1024
MAX_CHOICES = 1000
_PREFIX = "x_"
"""Begins the names of rules that callers made: those of this server begin otherwise."""
_IS_GBNF = re.compile(r"^[ \t]*[A-Za-z0-9_-]+[ \t]*::=", re.MULTILINE)


def grammar(text: str) -> tuple[str, str]:
    """Returns the term of a grammar in Lark or GBNF, and the lines with its rules. Raises
    GrammarError."""
    _check_size(text)
    is_gbnf = _IS_GBNF.search(text) is not None
    rules = gbnf.read(text) if is_gbnf else lark.read(text)
    check(rules)
    rules = ending(rules)
    return written(with_terminals(rules) if is_gbnf else rules, _PREFIX)


def regex(pattern: str) -> str:
    """Returns the term of texts that a regular expression matches from their beginning to their
    end. Raises GrammarError."""
    _check_size(pattern)
    found = canonical(pattern)
    return f"/{found}/" if found else '""'


def choice(texts: Sequence[str]) -> str:
    """Returns the term of one of these texts. Raises GrammarError."""
    if not texts:
        raise GrammarError("there is nothing to choose from")
    if len(texts) > MAX_CHOICES:
        raise GrammarError(f"there are {len(texts)} texts; at most {MAX_CHOICES} are taken")
    _check_size("".join(texts))
    return " | ".join(map(quoted, dict.fromkeys(texts)))


def _check_size(text: str) -> None:
    n_bytes = len(text.encode())
    if n_bytes > MAX_BYTES:
        raise GrammarError(f"it has {n_bytes} bytes; at most {MAX_BYTES} are taken")
