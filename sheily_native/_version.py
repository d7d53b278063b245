"""The flag `--version` of this package's programs."""

from __future__ import annotations

import argparse

from .build import build_info
from .errors import NotBuiltError


class ShowVersion(argparse.Action):
    """Prints the library's version and llama.cpp's, and leaves; with exit code 1 if it is not
    built."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(
            option_strings,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            nargs=0,
            help="show the version and exit",
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            info = build_info()
        except NotBuiltError as error:
            parser.exit(1, f"{error}\n")
        print(f"sheily_native {info.version}, llama.cpp b{info.llama_cpp_build}, build {info.name}")
        parser.exit()
