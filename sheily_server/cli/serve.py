"""`sheily serve`: the server, with a model by its short name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..__main__ import main as serve
from ..config import DEFAULT_MODEL_PATH, flag, parser
from ..shell import sheily
from . import fetch
from .places import FILES, find, folders


def options(program: str) -> argparse.ArgumentParser:
    """Returns the parser: the server's own flags, and what names a model."""
    found = parser(program)
    found.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help=f"a name ({', '.join(FILES)}), or the GGUF file in one of the folders for models; "
        "stands for --model-path",
    )
    found.add_argument(
        "--fetch", action="store_true", help="bring the model first, unless it is there"
    )
    return found


def main(arguments: Sequence[str], program: str) -> int:
    """Runs the server until it is told to stop. Returns its exit code."""
    given = options(f"{program} serve")
    chosen = given.parse_args(arguments)
    if chosen.model is None:
        if chosen.fetch:
            given.error(f"--fetch needs the MODEL to bring, such as {' or '.join(FILES)}")
        return serve([*_flags(chosen), *_default(chosen)], program=given.prog)
    if chosen.model_path is not None:
        given.error("MODEL and --model-path name two models: leave one of them out")
    path = find(chosen.model)
    if path is None and chosen.fetch:
        if chosen.model.lower() not in FILES:
            given.error(f"--fetch brings {' or '.join(FILES)}; `{sheily('fetch')}` brings others")
        if code := fetch.main([chosen.model.lower()], f"{program} fetch", next_step=False):
            return code
        # In a process of its own: the download has begun threads, each with a heap.
        os.execv(sys.executable, [word for word in sys.orig_argv if word != "--fetch"])
    if path is None:
        print(f"sheily_server: {_missing(chosen.model)}", file=sys.stderr)
        return 2
    return serve([*_flags(chosen), f"--model-path={path}"], program=given.prog)


def _flags(chosen: argparse.Namespace) -> list[str]:
    """Returns the server's own arguments."""
    own = {name: text for name, text in vars(chosen).items() if name not in ("model", "fetch")}
    return [f"{flag(name)}={text}" for name, text in own.items() if text is not None]


def _default(chosen: argparse.Namespace) -> list[str]:
    """Returns the flag for the default model, where nothing names one and it was fetched."""
    near = Path(DEFAULT_MODEL_PATH)
    if chosen.model_path is not None or "LLM_MODEL_PATH" in os.environ or near.exists():
        return []
    path = find(near.name)
    return [] if path is None else [f"--model-path={path}"]


def _missing(model: str) -> str:
    looked = " and ".join(str(folder) for folder in folders())
    if model.lower() in FILES:
        return (
            f"The model {model} is not there (looked in {looked}). This brings it and starts:\n"
            f"  {sheily('serve', '--fetch', model)}"
        )
    return (
        f"There is no model {model} (looked in {looked}). Known names: {', '.join(FILES)}; "
        "--model-path takes any GGUF file."
    )
