"""How commands are typed for the Python that runs this, so that each one shown can be pasted."""

from __future__ import annotations

import shlex
import sys


def python(*words: str) -> str:
    """Returns a line for a shell that runs this very Python, which PATH may not lead to."""
    return shlex.join([sys.executable or "python3", *words])


def install(*words: str) -> str:
    """Returns a line for a shell that has pip install into this Python's environment."""
    return python("-m", "pip", "install", *words)


REBUILD = install("--force-reinstall", "--no-deps", ".")
"""For a source folder."""
