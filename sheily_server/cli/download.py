"""What the sources of models share: the error and its words, and the hash of a file."""

from __future__ import annotations

import errno
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


def explain(error: OSError, filename: str, folder: Path, disk_full: str) -> str:
    """Says why a model could not be put into a folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the folder {folder} cannot be written: give another one with --to, or its rights"
    return f"cannot put {filename} into {folder}: {error.strerror or error}"
