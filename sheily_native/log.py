"""How much llama.cpp says on stderr; the library sets no Python logging up."""

from __future__ import annotations

from ._library import library


def set_log_level(level: int) -> None:
    """0 nothing, 1 errors, 2 and warnings (the default), 3 and information, 4 and debugging.

    Each message is one line on stderr that begins with its level's letter: "W llama: ...".
    """
    library()[1].sn_set_log_level(level)
