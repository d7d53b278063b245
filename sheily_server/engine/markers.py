"""Finds the markers in a text. Knows their texts and ids, not what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

_WINDOW = 16_384
"""Characters covered by one search; Python runs nothing else meanwhile."""


class Markers:
    """The markers of a vocabulary: their ids by their texts, none of them empty."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids
        self._longest = max(map(len, ids), default=0)
        self._pattern = re.compile(_alternatives(sorted(ids))) if ids else None

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Yields the text in parts: markers with their ids, and with None what is between them. Of
        markers that begin at the same place, the longest is taken.

        >>> list(Markers({"<a>": 7}).split("x<a><a"))
        [('x', None), ('<a>', 7), ('<a', None)]
        """
        begin = 0
        while begin < len(text):
            place = self._find(text, begin)
            if place is None:
                break
            if begin < place[0]:
                yield text[begin : place[0]], None
            marker = text[slice(*place)]
            yield marker, self._ids[marker]
            begin = place[1]
        if begin < len(text):
            yield text[begin:], None

    def _find(self, text: str, begin: int) -> tuple[int, int] | None:
        """Returns the place of the first marker at or after `begin`."""
        while self._pattern is not None and begin < len(text):
            # A marker that begins in the window is seen whole.
            found = self._pattern.search(text, begin, begin + _WINDOW + self._longest)
            if found is not None and found.start() < begin + _WINDOW:
                return found.span()
            begin += _WINDOW
        return None


def _alternatives(texts: Sequence[str]) -> str:
    """Returns an expression for any of these sorted texts, the longest first. It is a tree by their
    common beginnings, so that a search looks at few characters of each place."""
    if len(texts) == 1:
        return re.escape(texts[0])
    first, last = texts[0], texts[-1]
    n = next((i for i in range(len(first)) if first[i] != last[i]), len(first))
    branches: dict[str, list[str]] = {}
    for text in texts:
        branches.setdefault(text[n : n + 1], []).append(text[n:])
    # The empty end sorts first, and must be tried last.
    rest = "|".join(_alternatives(branches[key]) for key in sorted(branches, reverse=True))
    return f"{re.escape(first[:n])}(?:{rest})"
