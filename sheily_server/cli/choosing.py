"""Which model a command is about: the one that it names, else the server's own setting."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..config import DEFAULT_MODEL_PATH, Config, ConfigError, flag, load, variable
from ..shell import sheily
from .places import FILES, find, folders


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the word for the model, which may be left out."""
    names = ", ".join(FILES)
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help=f"{names}, or a GGUF file; default: the server's"
    )


def model_flags(model: str | None) -> list[str]:
    """Returns the server's flags for a model; for None, the flag for the default model if nothing
    else names one and it lies among the fetched ones.

    Raises ConfigError, which says what to type, for a model that is not there.
    """
    if model is None:
        near = Path(DEFAULT_MODEL_PATH)
        if variable("model_path") in os.environ or near.exists():
            return []
        path = find(near.name)
        return [] if path is None else [f"{flag('model_path')}={path}"]
    path = find(model)
    if path is None:
        raise ConfigError(_missing(model))
    return [f"{flag('model_path')}={path}"]


def settings(model: str | None) -> Config:
    """Returns the settings that `sheily serve MODEL` would have. Raises ConfigError."""
    return load(model_flags(model))


def _missing(model: str) -> str:
    looked = " and ".join(str(folder) for folder in folders())
    if model.lower() in FILES:
        return (
            f"The model {model} is not there (looked in {looked}). This brings it and starts:\n"
            f"  {sheily('serve', '--fetch', model)}"
        )
    return (
        f"There is no file {model}, nor one of that name in {looked}. Known names: "
        f"{', '.join(FILES)}."
    )
