"""What a prompt depends on beside its text: small files beside the blocks, such as a conversation's
date and the ids of an answer. Knows keys and bytes."""

from __future__ import annotations

import hashlib
import logging
import time

from .folder import Folder

log = logging.getLogger(__name__)

CHECKSUM = 8
SLOW_S = 0.25
REST = 50
MOST_REST_S = 60.0
"""After a look that took longer than SLOW_S nothing is looked for during REST times as long, but
for at most MOST_REST_S: others wait for who looks."""


class Notes:
    """Small files of one `kind`, at most `most` bytes each. Thread-safe; may be shared by several
    processes. What goes wrong is a note that is not there: it is logged once, and never raised."""

    def __init__(self, folder: Folder, kind: str, most: int) -> None:
        self._folder = folder
        self._kind = kind
        self._most = most
        self._told = False
        self._rests_until = 0.0

    def get(self, *key: bytes) -> bytes | None:
        """Returns what was put under a key; None for nothing, and while the folder is too slow."""
        began = time.monotonic()
        if began < self._rests_until:
            return None
        found = self._get(self._place(key))
        took = time.monotonic() - began
        if took > SLOW_S:
            self._rests_until = began + took + min(REST * took, MOST_REST_S)
        return found

    def _get(self, place: tuple[str, str]) -> bytes | None:
        try:
            data = self._folder.read(*place, self._most + CHECKSUM)
            self._folder.touch(*place)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._note(error)
            return None
        content = data[CHECKSUM:]
        return content if data[:CHECKSUM] == self._checksum(place, content) else None

    def put(self, *key: bytes, data: bytes) -> tuple[str, str]:
        """Keeps what is not too large under a key; returns the folder and the name of its file."""
        place = self._place(key)
        if len(data) > self._most:
            return place
        try:
            self._folder.write(*place, self._checksum(place, data), data)
        except OSError as error:
            self._note(error)
        return place

    def _place(self, key: tuple[bytes, ...]) -> tuple[str, str]:
        digest = hashlib.blake2b(self._kind.encode(), digest_size=20, person=b"sheily note")
        for part in key:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        name = digest.hexdigest()
        return f"n{name[:2]}", name

    @staticmethod
    def _checksum(place: tuple[str, str], content: bytes) -> bytes:
        return hashlib.blake2b(place[1].encode() + content, digest_size=CHECKSUM).digest()

    def _note(self, error: Exception) -> None:
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        log.log(level, "a note of the prefix cache cannot be used: %s", error)
