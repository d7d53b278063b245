"""The token ids that answers were generated with, found again by their text.

A conversation's next turn has the last answer in it as text. Tokenized anew, it may give other ids
than the model chose, and the prefix that is in the KV cache would end there.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence


class Answers:
    """The ids of the last answers, so many in all; more than the KV cache has room for are of no
    use. Thread-safe."""

    def __init__(self, most_tokens: int) -> None:
        self._most = most_tokens
        self._n_tokens = 0
        self._ids: OrderedDict[str, array[int]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, text: str, ids: Sequence[int]) -> None:
        """The ids of a segment's text: what stood before the answer in it, and the answer."""
        with self._lock:
            self._n_tokens += len(ids) - len(self._ids.pop(text, ()))
            self._ids[text] = array("i", ids)
            while self._n_tokens > self._most:
                self._n_tokens -= len(self._ids.popitem(last=False)[1])

    def ids(self, text: str) -> list[int] | None:
        """The ids of a segment's text, if an answer made it."""
        with self._lock:
            found = self._ids.get(text)
            return None if found is None else list(found)
