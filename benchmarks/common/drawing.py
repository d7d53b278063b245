"""What the pictures of all benchmarks share: colours, and the program that draws a saved report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from sheily_server.version import ShowVersion

OWN, PEER, INK = "#2563a8", "#b4bac2", "#1f2430"
BAR_HEIGHT = 0.62

T = TypeVar("T")


def draw_saved(
    source: str,
    kind: type[T],
    draw: Callable[[T, Path], None],
    arguments: list[str] | None,
) -> int:
    """The program `SOURCE.plot`, which draws a report that `source` wrote; its exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {source}.plot", description=f"Draw a report of {source}."
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("report", type=Path, metavar="REPORT.json", help="of --json")
    parser.add_argument("out", type=Path, metavar="OUT", help="a .png or .svg file")
    options = parser.parse_args(arguments)
    try:
        draw(msgspec.json.decode(options.report.read_bytes(), type=kind), options.out)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
