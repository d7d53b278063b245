"""Which requests were in native code when the engine died, without what they said. Knows commands
and deaths, nothing of processes."""

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
"""More than there are at one death, or the culprit might be forgotten each time."""

DEATHS_OF_A_SUSPECT = 2
_CONVICTED = 1 << 30


class Suspects:
    """Requests by their fingerprints, the `MOST` that were asked or blamed last.

    Whoever was there at two deaths is a suspect and goes alone. If the engine dies of it alone it
    is refused from then on; if it ends well it is cleared. The key of the fingerprints is random
    and never leaves this object: they tell nothing of a request, and are of no use to another
    process. Not thread-safe.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._deaths: OrderedDict[bytes, int] = OrderedDict()

    def fingerprint(self, command: Submit | Tokenize | Detokenize) -> bytes:
        """The same for a request that is repeated: its id, its times and its seed do not count."""
        if isinstance(command, Submit):
            sampling = msgspec.structs.replace(command.sampling, seed=None)
            command = msgspec.structs.replace(
                command, id=0, deadline=0.0, arrived=0.0, sampling=sampling
            )
        elif isinstance(command, Tokenize):
            command = msgspec.structs.replace(command, id=0, deadline=0.0)
        else:
            command = msgspec.structs.replace(command, id=0)
        data = msgspec.msgpack.encode(command)
        return blake2b(data, digest_size=16, key=self._key).digest()

    def verdict(self, fingerprint: bytes) -> Verdict:
        """How a request may go into the engine."""
        deaths = self._deaths.get(fingerprint, 0)
        if deaths:
            self._deaths.move_to_end(fingerprint)
        if deaths >= _CONVICTED:
            return "refused"
        return "alone" if deaths >= DEATHS_OF_A_SUSPECT else "free"

    def blame(self, fingerprints: Iterable[bytes]) -> None:
        """The engine died by itself while these were in native code."""
        for fingerprint in set(fingerprints):
            self._put(fingerprint, self._deaths.get(fingerprint, 0) + 1)

    def convict(self, fingerprint: bytes) -> None:
        """The engine died by itself while nothing but this was in it."""
        self._put(fingerprint, _CONVICTED)

    def clear(self, fingerprint: bytes) -> None:
        """It went alone and ended well."""
        self._deaths.pop(fingerprint, None)

    def _put(self, fingerprint: bytes, deaths: int) -> None:
        self._deaths[fingerprint] = deaths
        self._deaths.move_to_end(fingerprint)
        while len(self._deaths) > MOST:
            self._deaths.popitem(last=False)
