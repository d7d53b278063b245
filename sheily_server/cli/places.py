"""Where model files are: the names of those that can be fetched, and the folders they lie in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

NEAR = Path("models")
"""The first place, under the current folder."""

FILES: Mapping[str, str] = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "llama-3.2-3b-instruct": "Llama-3.2-3B-Instruct-Q8_0.gguf",
}
"""The short names of models, with the names of their files."""


def user_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Returns the folder that fetched models go to, as the XDG base directories have it.

    A relative XDG_DATA_HOME counts as none, as its specification says.
    """
    environment = os.environ if environment is None else environment
    data = environment.get("XDG_DATA_HOME", "")
    base = Path(data) if os.path.isabs(data) else Path("~/.local/share").expanduser()
    return base / "sheily" / "models"


def folders() -> tuple[Path, Path]:
    """Returns the folders in which a model is looked for, in this order."""
    return NEAR.absolute(), user_folder()


def find(name: str) -> Path | None:
    """Returns the file of a model: a short name, a path, or the name of a file in one of the
    folders. None if there is no such file."""
    if name.lower() not in FILES:
        path = Path(os.path.expanduser(name)).absolute()
        if path.is_file():
            return path
    file = FILES.get(name.lower(), name)
    return next((path for folder in folders() if (path := folder / file).is_file()), None)
