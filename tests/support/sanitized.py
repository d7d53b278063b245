"""A pytest plugin for `make sanitize`: the library with sanitizers takes the usual one's place."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

VARIABLE = "SHEILY_SANITIZED_LIBRARY"
MODULE = "sheily_native._native"


class Finder(MetaPathFinder):
    """Finds one module, in one file."""

    def __init__(self, library: Path) -> None:
        self._library = library

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_file_location(fullname, self._library) if fullname == MODULE else None


sys.meta_path.insert(0, Finder(Path(os.environ[VARIABLE]).absolute()))
