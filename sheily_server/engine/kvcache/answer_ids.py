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
from typing import NamedTuple

from ...kvstore.notes import Notes

_Key = tuple[str, bytes, str]


class Note(NamedTuple):
    """What is kept of an answer beside its cells: ids under a key, both as bytes."""

    key: tuple[bytes, ...]
    ids: bytes


class AnswerIds:
    """The ids of the latest answers, at most `most_tokens` in all; more than the KV cache has room
    for are useless. Thread-safe.

    An answer is found only in the same conversation: for the same caller (`scope`), after exactly
    the same token ids. So no caller changes how another's text is read, and text that was not an
    answer there is read as usual.
    """

    def __init__(self, most_tokens: int, notes: Notes | None = None) -> None:
        """`notes` has what was to be noted, also by other processes."""
        self._most = most_tokens
        self._notes = notes
        self._n_tokens = 0
        self._ids: OrderedDict[_Key, array[int]] = OrderedDict()
        self._texts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def remember(self, scope: str, before: Sequence[int], text: str, ids: Sequence[int]) -> Note:
        """Stores the ids of a segment's text: what precedes the answer in it, and the answer.
        `before` are the ids before that segment. Returns what is to be noted, for who comes
        later."""
        key = scope, _digest(before), text
        with self._lock:
            self._forget(key)
            self._n_tokens += len(ids)
            self._ids[key] = array("i", ids)
            self._texts[scope, text] = self._texts.get((scope, text), 0) + 1
            while self._n_tokens > self._most:
                self._forget(next(iter(self._ids)))
        return Note(_parts(key), array("i", ids).tobytes())

    def ids(self, scope: str, before: Sequence[int], text: str) -> list[int] | None:
        """Returns the ids of a segment's text if an answer produced it there, else None."""
        if self._notes is None and (scope, text) not in self._texts:  # spares most the digest
            return None
        key = scope, _digest(before), text
        with self._lock:
            found = self._ids.get(key)
        if found is None and self._notes is not None:
            found = _decoded(self._notes.get(*_parts(key)))
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


def _parts(key: _Key) -> tuple[bytes, ...]:
    scope, before, text = key
    return scope.encode(), before, text.encode("utf-8", "surrogatepass")


def _decoded(data: bytes | None) -> array[int] | None:
    if data is None or len(data) % array("i").itemsize:
        return None
    return array("i", data)


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("i", ids).tobytes(), digest_size=16).digest()
