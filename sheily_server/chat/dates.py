"""Remembers the date on which each conversation began. Knows no clock and no prompt."""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

from ..kvstore.notes import Notes
from ..templates.base import Message


class ConversationDates:
    """A bounded table of conversations and the dates on which they began. Thread-safe.

    A prompt names the date near its start. If a conversation that runs past midnight got the new
    date, none of its cached prompt could be reused.

    A conversation is identified by its scope, its system text and its first user text. Only a hash
    of these is kept. The `capacity` most recently used stay. A conversation without an answer is
    beginning: it gets today's date, even if another began with the same words before, so that a
    common opening does not keep its first date for ever.
    """

    def __init__(self, capacity: int = 1024, notes: Notes | None = None) -> None:
        """`notes` keeps the dates also after this process."""
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._capacity = capacity
        self._notes = notes
        self._dates: OrderedDict[bytes, datetime.date] = OrderedDict()
        self._lock = threading.Lock()

    def date_for(
        self,
        messages: Sequence[Message],
        today: datetime.date,
        scope: str = "",
        noted: bool = True,
    ) -> datetime.date:
        """Returns the date to tell the model. `messages` is the conversation before its history is
        cut; `scope` says whose it is, `noted` whether its date may be in the notes."""
        key = _key(messages, scope)
        begins = all(message.role in ("system", "user") for message in messages)
        with self._lock:
            known = self._dates.get(key)
        date = today if begins else known or self._noted(key) or today
        if self._notes is not None and noted and date != known:
            self._notes.put(key, data=date.isoformat().encode())
        with self._lock:
            self._dates[key] = date
            self._dates.move_to_end(key)
            if len(self._dates) > self._capacity:
                self._dates.popitem(last=False)
            return date

    def _noted(self, key: bytes) -> datetime.date | None:
        found = None if self._notes is None else self._notes.get(key)
        try:
            return None if found is None else datetime.date.fromisoformat(found.decode())
        except ValueError:
            return None


def _key(messages: Sequence[Message], scope: str) -> bytes:
    system = messages[0].text if messages and messages[0].role == "system" else ""
    user = next((message.text for message in messages if message.role == "user"), "")
    digest = hashlib.blake2b(digest_size=16)
    for text in (scope, system, user):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()
