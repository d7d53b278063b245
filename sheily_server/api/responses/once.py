"""Responses that are begun once, however often their request is sent: which one a request with an
`Idempotency-Key` means, as the id of its response comes from the key."""

from __future__ import annotations

import re
from hashlib import blake2b

from ...errors import InvalidRequestError
from ..route import Service
from . import kept
from .encode import id_of

HEADER = "Idempotency-Key"
MOST = 255
REPLAYED = {"Idempotent-Replayed": "true"}
"""The headers of a reply with a response that was there before; the name is Stripe's."""
DOES = (
    f"1 to {MOST} visible characters of ASCII. With background, the same key and body is the same "
    "response, and a reply with one that was there has Idempotent-Replayed: true."
)
_KEY = re.compile(rf"[\x21-\x7e]{{1,{MOST}}}")


def digest(body: bytes) -> bytes:
    """Returns what tells a body from others."""
    return blake2b(body, digest_size=32).digest()


def key_of(given: str, owner: str, body: bytes) -> str | None:
    """Returns what is unique in the id of the response that an `owner` asks for with a key and a
    body of this digest; None without a key. Raises InvalidRequestError."""
    if not given:
        return None
    if not _KEY.fullmatch(given):
        raise InvalidRequestError(
            f"{HEADER} must be 1 to {MOST} visible characters of ASCII, without spaces.", HEADER
        )
    parts = blake2b(digest_size=16, person=b"sheily-once")
    for part in (owner.encode(), given.encode(), body):
        parts.update(len(part).to_bytes(4, "big"))
        parts.update(part)
    return parts.hexdigest()


def is_there(service: Service, key: str, owner: str, hold: kept.Hold) -> bool:
    """Returns whether this response has been begun and is still known. Raises ServiceError."""
    id = id_of(key)
    if service.jobs.find(id, owner) is not None:
        return True
    return kept.read(service.store, owner, id, hold) is not None
