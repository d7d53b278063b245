"""`sheily serve`: the server, with a model by its short name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..__main__ import main as serve
from ..config import ConfigError, flag, parser
from ..shell import sheily
from . import fetch
from .choosing import model_flags
from .places import FILES, find


def options(program: str) -> argparse.ArgumentParser:
    """Returns the parser: the server's own flags, and what names a model."""
    found = parser(program)
    found.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help=f"a name ({', '.join(FILES)}), or a GGUF file; stands for --model-path",
    )
    found.add_argument(
        "--fetch", action="store_true", help="bring the model first, unless it is there"
    )
    return found


def main(arguments: Sequence[str], program: str) -> int:
    """Runs the server until it is told to stop. Returns its exit code."""
    given = options(f"{program} serve")
    chosen = given.parse_args(arguments)
    if chosen.model is not None and chosen.model_path is not None:
        given.error("MODEL and --model-path name two models: leave one of them out")
    if chosen.fetch and chosen.model is None:
        given.error(f"--fetch needs the MODEL to bring, such as {' or '.join(FILES)}")
    if chosen.fetch and find(chosen.model) is None:
        if chosen.model.lower() not in FILES:
            given.error(f"--fetch brings {' or '.join(FILES)}; `{sheily('fetch')}` brings others")
        if code := fetch.main([chosen.model.lower()], f"{program} fetch", next_step=False):
            return code
        # In a process of its own: the download has begun threads, each with a heap.
        os.execv(sys.executable, [word for word in sys.orig_argv if word != "--fetch"])
    flags = _flags(chosen)
    if chosen.model_path is None:
        try:
            flags += model_flags(chosen.model)
        except ConfigError as error:
            print(f"sheily_server: {error}", file=sys.stderr)
            return 2
    return serve(flags, program=given.prog)


def _flags(chosen: argparse.Namespace) -> list[str]:
    """Returns the server's own arguments."""
    own = {name: text for name, text in vars(chosen).items() if name not in ("model", "fetch")}
    return [f"{flag(name)}={text}" for name, text in own.items() if text is not None]
