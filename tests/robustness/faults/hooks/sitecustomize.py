"""Python imports this by its name when a process starts with this folder in PYTHONPATH: the library
with faults that can be asked for then takes the usual one's place, in the engine as well."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

VARIABLE = "SHEILY_HOOKS_LIBRARY"
MODULE = "sheily_native._native"


class Finder(MetaPathFinder):
    """Finds one module, in one file."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        return spec_from_file_location(fullname, os.environ[VARIABLE])


if VARIABLE in os.environ:
    sys.meta_path.insert(0, Finder())
