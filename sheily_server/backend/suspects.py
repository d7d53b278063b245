"""Tracks which requests were in native code when the engine died, without keeping their text. Knows
commands and deaths, not processes."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

import msgspec

from ..protocol.commands import Detokenize, Submit, Tokenize

Verdict = Literal["free", "alone", "refused"]

MOST = 1024
"""More than there are requests at one death, or the culprit could be forgotten every time."""

DEATHS_OF_A_SUSPECT = 2
_CONVICTED = 1 << 30


class Suspects:
    """Requests by fingerprint; keeps the `MOST` that were asked about or blamed last.

    A request present at two deaths is a suspect and runs alone. If the engine dies while running it
    alone, it is refused from then on; if it ends well, it is cleared. The fingerprint key is random
    and never leaves this object, so fingerprints reveal nothing about a request and mean nothing to
    another process. Not thread-safe.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._deaths: OrderedDict[bytes, int] = OrderedDict()

    def fingerprint(self, command: Submit | Tokenize | Detokenize) -> bytes:
        """Returns the same value for a repeated request: ignores its id, its times,
        its seed and who asks."""
        if isinstance(command, Submit):
            sampling = msgspec.structs.replace(command.sampling, seed=None)
            command = msgspec.structs.replace(
                command, id=0, deadline=0.0, arrived=0.0, sampling=sampling, client=[]
            )
        elif isinstance(command, Tokenize):
            command = msgspec.structs.replace(command, id=0, deadline=0.0)
        else:
            command = msgspec.structs.replace(command, id=0)
        data = msgspec.msgpack.encode(command)
        return blake2b(data, digest_size=16, key=self._key).digest()

    def verdict(self, fingerprint: bytes) -> Verdict:
        """Decides how a request may enter the engine."""
        deaths = self._deaths.get(fingerprint, 0)
        if deaths:
            self._deaths.move_to_end(fingerprint)
        if deaths >= _CONVICTED:
            return "refused"
        return "alone" if deaths >= DEATHS_OF_A_SUSPECT else "free"

    def blame(self, fingerprints: Iterable[bytes]) -> None:
        """Records that the engine died by itself while these were in native code."""
        for fingerprint in set(fingerprints):
            self._put(fingerprint, self._deaths.get(fingerprint, 0) + 1)

    def convict(self, fingerprint: bytes) -> None:
        """Records that the engine died by itself while only this request was in it."""
        self._put(fingerprint, _CONVICTED)

    def clear(self, fingerprint: bytes) -> None:
        """Records that the request ran alone and ended well."""
        self._deaths.pop(fingerprint, None)

    def _put(self, fingerprint: bytes, deaths: int) -> None:
        self._deaths[fingerprint] = deaths
        self._deaths.move_to_end(fingerprint)
        while len(self._deaths) > MOST:
            self._deaths.popitem(last=False)
