"""What the sources of models share: the error, and the hash of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHUNK = 1 << 20
"""Bytes that are read or written at once."""


class FetchError(Exception):
    """A model could not be fetched. The message says what to do, without a period at its end."""


def sha256(path: Path) -> str:
    """Returns the hash of a file in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
