"""The file that a server reads with `--tuned`; `sheily_server/tuned.py` has the reader."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .measure import Bounds
from .plan import Figures, Settings

VERSION = 1


def document(
    *, cpu: str, model: Path, settings: Settings, figures: Figures, bounds: Bounds
) -> dict[str, Any]:
    """Builds the file's content; rates are per second."""
    return {
        "version": VERSION,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": cpu,
        "model": model.name,
        "settings": dataclasses.asdict(settings),
        "measured": {
            "prefill_tokens": figures.prefill,
            "decode_tokens": figures.decode,
            "memory_bytes": bounds.memory,
            "integer_multiply_adds": bounds.integer,
        },
    }


def check_writable(path: Path) -> None:
    """Raises OSError, with a sentence, when no file can be written there.

    Call this before the timing, which takes minutes.
    """
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes the file whole or not at all. Raises OSError, with a sentence."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: {error.strerror}") from error
