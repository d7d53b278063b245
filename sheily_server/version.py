"""The installed version of this package, and of the llama.cpp inside it."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "sheily-server"


def package_version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0"


def versions() -> str:
    """Returns the versions in one line. Imports no native code."""
    own = f"{PACKAGE} {package_version()}"
    for path in _records():
        try:
            built = json.loads(path.read_text(encoding="utf-8"))
            return f"{own}, llama.cpp b{int(built['llama_cpp_build'])}"
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return f"{own}, without its compiled part"


def _records() -> Iterator[Path]:
    """Yields where the record of the compiled library may be: beside this package, or where an
    editable install puts it."""
    inside = Path("sheily_native", "build_info.json")
    yield Path(__file__).parent.parent / inside
    try:
        yield Path(str(importlib.metadata.distribution(PACKAGE).locate_file(inside)))
    except importlib.metadata.PackageNotFoundError:
        return


class ShowVersion(argparse.Action):
    """The action of a flag `--version`: prints the versions and leaves."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(
            option_strings,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            nargs=0,
            help="show the version and exit",
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(versions())
        parser.exit()
