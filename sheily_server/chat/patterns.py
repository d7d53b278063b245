"""Takes out of a regular expression what no grammar can follow. Pure; one pass over the text."""

from __future__ import annotations

import re

_LOOKAROUND = re.compile(r"\(\?<?[=!]")
_COUNTS = re.compile(r"\{(\d{1,9}),(\d{1,9})\}")
_BOUNDARIES = (r"\b", r"\B")


def loosened(pattern: str, longest: int) -> str:
    """Returns a pattern without lookarounds and word boundaries, and without upper limits of
    repetitions above `longest`. It matches all that the pattern matches.

    Returns the pattern itself where a part cannot be taken out alone. Syntax is that of
    JavaScript, which JSON Schema refers to.
    """
    kept: list[str] = []
    at, in_class = 0, False
    while at < len(pattern):
        end = at + (2 if pattern[at] == "\\" else 1)
        piece = pattern[at:end]
        if in_class:
            in_class = piece != "]"
        elif piece == "[":
            in_class = True
        elif piece in _BOUNDARIES:
            piece = ""
        elif _LOOKAROUND.match(pattern, at):
            end, piece = _group_end(pattern, at), ""
            if pattern[end : end + 1] in ("*", "+", "?", "{"):
                return pattern
        elif counts := _COUNTS.match(pattern, at):
            end, piece = counts.end(), counts[0]
            if int(counts[2]) > longest >= int(counts[1]):
                piece = f"{{{counts[1]},}}"
        kept.append(piece)
        at = end
    return "".join(kept)


def _group_end(pattern: str, at: int) -> int:
    """Returns the end of the group that begins at `at`, or the pattern's if it is never closed."""
    depth, in_class = 0, False
    while at < len(pattern):
        piece = pattern[at]
        if piece == "\\":
            at += 1
        elif in_class:
            in_class = piece != "]"
        elif piece == "[":
            in_class = True
        elif piece in "()":
            depth += 1 if piece == "(" else -1
            if depth == 0:
                return at + 1
        at += 1
    return len(pattern)
