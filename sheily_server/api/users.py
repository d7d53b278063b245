"""Which of its caller's users a body is from, before it is decoded: what a dialect calls them, and
nothing else of the body."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct


class _Metadata(Struct):
    user_id: Any = None


class _Named(Struct):
    safety_identifier: Any = None
    user: Any = None
    metadata: _Metadata | None = None


_NAMED = msgspec.json.Decoder(_Named)


def user_of(body: bytes) -> str:
    """Returns the user that a body names: OpenAI's `safety_identifier` or the older `user`, or
    Anthropic's `metadata.user_id`. Empty where it names none, or is not what it should be."""
    try:
        found = _NAMED.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    user_id = found.metadata.user_id if found.metadata is not None else None
    names = (found.safety_identifier, found.user, user_id)
    return next((name for name in names if isinstance(name, str) and name), "")
