"""Stores the token ids that answers were generated with, keyed by caller, preceding tokens and
text.

The next turn of a conversation contains the last answer as text. Tokenizing it again may give other
ids than the model chose, and the prefix in the KV cache would end there.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence

_Key = tuple[str, bytes, str]


class AnswerIds:
    """The ids of the latest answers, at most `most_tokens` in all; more than the KV cache has room
    for are useless. Thread-safe.

    An answer is found only in the same conversation: for the same caller (`scope`), after exactly
    the same token ids. So no caller changes how another's text is read, and text that was not an
    answer there is read as usual.
    """

    def __init__(self, most_tokens: int) -> None:
        self._most = most_tokens
        self._n_tokens = 0
        self._ids: OrderedDict[_Key, array[int]] = OrderedDict()
        self._texts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def remember(self, scope: str, before: Sequence[int], text: str, ids: Sequence[int]) -> None:
        """Stores the ids of a segment's text: what precedes the answer in it, and the answer.
        `before` are the ids before that segment."""
        key = scope, _digest(before), text
        with self._lock:
            self._forget(key)
            self._n_tokens += len(ids)
            self._ids[key] = array("i", ids)
            self._texts[scope, text] = self._texts.get((scope, text), 0) + 1
            while self._n_tokens > self._most:
                self._forget(next(iter(self._ids)))

    def ids(self, scope: str, before: Sequence[int], text: str) -> list[int] | None:
        """Returns the ids of a segment's text if an answer produced it there, else None."""
        with self._lock:
            if (scope, text) not in self._texts:  # spares most texts the digest
                return None
            found = self._ids.get((scope, _digest(before), text))
            return None if found is None else list(found)

    def _forget(self, key: _Key) -> None:
        ids = self._ids.pop(key, None)
        if ids is None:
            return
        scope, _, text = key
        self._n_tokens -= len(ids)
        self._texts[scope, text] -= 1
        if not self._texts[scope, text]:
            del self._texts[scope, text]


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("i", ids).tobytes(), digest_size=16).digest()
