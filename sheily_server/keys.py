"""API keys from a setting or a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_MOST_KEY_BYTES = 65_536
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The keys of a file, and whether every user of the machine may read it."""

    path: Path
    keys: tuple[str, ...] = field(repr=False)
    open_to_others: bool


def parse_keys(text: str) -> tuple[str, ...]:
    """Parses keys with commas between them. Raises ValueError whose message is the end of a
    sentence and contains no key."""
    keys = tuple(part.strip() for part in text.split(",") if part.strip())
    if not keys:
        raise ValueError("is empty: give a key, or several separated by commas")
    if not all(_KEY.fullmatch(key) for key in keys):
        raise ValueError("has a key with characters other than printable ASCII without spaces")
    return keys


def read_keys(path: Path) -> KeyFile:
    """Reads a file with one key in each line, ignoring blank lines and `#` comments. Raises
    ValueError whose message is the end of a sentence and contains no key."""
    named = f"is {str(path)!r}, which"
    try:
        if not path.is_file():
            raise ValueError(f"{named} is not a file")
        with path.open("rb") as file:
            data = file.read(_MOST_KEY_BYTES + 1)
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{named} cannot be read ({error.strerror})") from None
    if len(data) > _MOST_KEY_BYTES:
        raise ValueError(f"{named} is larger than {_MOST_KEY_BYTES} bytes")
    keys = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        key = line.strip().decode("latin-1")
        if not key or key.startswith("#"):
            continue
        if not _KEY.fullmatch(key):
            raise ValueError(f"{named} has something else in line {number} than a key")
        keys.append(key)
    if not keys:
        raise ValueError(f"{named} has no key in it")
    return KeyFile(path, tuple(keys), bool(mode & 0o004))
