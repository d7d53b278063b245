"""Files as `sheily_native.tune` writes them, and wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).with_name("tuned.json")


def content(**changes: Any) -> dict[str, Any]:
    """The example's content; a change of None leaves a field out."""
    example: dict[str, Any] = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    return {name: value for name, value in (example | changes).items() if value is not None}


def settings(**changes: Any) -> dict[str, Any]:
    """The example's settings, changed in the same way."""
    found: dict[str, Any] = content()["settings"]
    return {name: value for name, value in (found | changes).items() if value is not None}


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(content(**changes)), encoding="utf-8")
    return path
