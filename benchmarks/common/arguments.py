"""Checks of command-line arguments that the benchmarks share."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path


def at_least(least: int) -> Callable[[str], int]:
    """A type for argparse: whole numbers from `least` on."""

    def whole_number(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, not {number}")
        return number

    return whole_number


def above(limit: float) -> Callable[[str], float]:
    """A type for argparse: finite numbers above `limit`."""

    def number_above(text: str) -> float:
        number = float(text)
        if not (math.isfinite(number) and number > limit):
            raise argparse.ArgumentTypeError(f"must be more than {limit:g}, not {text}")
        return number

    return number_above


def absolute_path(text: str) -> Path:
    """A type for argparse: absolute paths. No link is followed: a Python behind one would forget
    its environment."""
    return Path(os.path.abspath(text))
