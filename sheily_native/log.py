"""Sets how much llama.cpp writes to stderr; sets up no Python logging."""

from __future__ import annotations

from ._library import library


def set_log_level(level: int) -> None:
    """Sets the level: 0 nothing, 1 errors, 2 + warnings (the default), 3 + information, 4 + debug.

    Each message is one line on stderr that begins with its level's letter: "W llama: ...".
    """
    library()[1].sn_set_log_level(level)
