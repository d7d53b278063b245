"""Waits for a model's file that is missing, or cannot be used, to become another one. Knows the
file, and neither time nor engine."""

from __future__ import annotations

import os
from pathlib import Path

from . import preflight
from .gguf import GGUF
from .preflight import Mark, ModelError, mark_of

LOOK_S = 1.0
"""Seconds from one look to the next."""


class BeingWrittenError(ModelError):
    """Raised for a file that has just changed."""


class Watch:
    """Looks at a file until it can be loaded, which is once it is whole and two looks have seen it
    the same: a download grows between them. A file that could not be used is not tried again
    before it changes; `seen` is its mark."""

    def __init__(self, path: Path, seen: Mark | None) -> None:
        self._path = path
        self._useless = self._last = seen

    def look(self) -> GGUF | None:
        """Returns the header of a file that can be loaded now, and None where nothing has changed.
        Raises ModelError for what is new and cannot be loaded, or not yet."""
        mark = mark_of(self._path)
        if mark == self._useless:
            return None
        if mark is not None and mark != self._last:
            self._last = mark
            raise BeingWrittenError(
                f"The model {self._path} is being written: it has {_size(self._path)} so far. It "
                "will be loaded when it is whole."
            )
        self._useless = self._last = mark
        return preflight.header(self._path)


def _size(path: Path) -> str:
    try:
        return f"{os.stat(path).st_size / 1e6:,.1f} MB"
    except OSError:
        return "nothing"
