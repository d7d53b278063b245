"""The targets by name, each opened for as long as it is used, and their full amounts."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.robustness.fuzz.running import Target

_MODULES = {
    "bodies": "bodies",
    "http": "raw_http",
    "grammars": "grammars",
    "text": "text",
    "gguf": "gguf_check",
    "gguf-native": "gguf_native",
    "neighbours": "neighbours",
}
NAMES = tuple(_MODULES)
FULL: dict[str, tuple[int, float | None]] = {
    "bodies": (200_000, None),
    "http": (100_000, None),
    "grammars": (20_000, None),
    "text": (100_000, None),
    "gguf": (100_000, None),
    "gguf-native": (100_000_000, 20.0),
    "neighbours": (100, None),
}
"""The most cases, and the most minutes, of a full run."""


@contextmanager
def opened(name: str) -> Iterator[Target]:
    """A target is imported when it is wanted: some need native code, some a newer server."""
    module = importlib.import_module(f"tests.robustness.fuzz.{_MODULES[name]}")
    with tempfile.TemporaryDirectory() as folder, module.opened(Path(folder)) as target:
        yield target
