"""`python -m sheily_native.usable`: tells programs, as JSON, which kernels this CPU can run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from . import kernels
from ._version import ShowVersion
from .cpu import current_cpu
from .errors import NativeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints `cpu` and `kernels`; exit code 1 if the library cannot be loaded here."""
    parser = argparse.ArgumentParser(
        prog="python -m sheily_native.usable",
        description="Print the kernels that this CPU can run, as JSON.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.parse_args(arguments)
    try:
        found = {"cpu": current_cpu().model, "kernels": kernels.usable()}
    except NativeError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
