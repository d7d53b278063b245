"""The disk tier of the prefix cache, one property a run.

`restart`: the first token of a long conversation behind a restart, from the disk and computed.
`writing`: the speed of prompts and answers while blocks are written, and without the tier.
`directory`: the start of a server on a full directory, and a prompt that is not in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from benchmarks.common import own
from benchmarks.common.arguments import at_least
from benchmarks.common.models import ROOT
from benchmarks.kvstore import directory, restart, writing

NAME = "benchmarks.kvstore"

Measure = Callable[[Path, argparse.Namespace, Path], own.Findings]

PARTS: Mapping[str, Measure] = MappingProxyType(
    {
        "restart": lambda model, options, scratch: restart.measure(
            model, options.rounds, options.tokens, scratch
        ),
        "writing": lambda model, options, scratch: writing.measure(model, options.rounds, scratch),
        "directory": lambda model, options, scratch: directory.measure(
            model, options.rounds, options.blocks, scratch
        ),
    }
)


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m benchmarks.kvstore`; the exit status is 1 when nothing could be measured."""
    parser = own.parser(NAME, "Measure the disk tier of the prefix cache.", rounds=3)
    parser.add_argument("part", choices=tuple(PARTS), help="what is measured")
    parser.add_argument(
        "--directory",
        type=Path,
        default=ROOT / "build",
        metavar="DIR",
        help="where the files of the tier are for the run: on the disk that counts (build)",
    )
    text = f"restart: tokens of the conversation ({restart.TOKENS})"
    parser.add_argument("--tokens", type=at_least(300), default=restart.TOKENS, help=text)
    text = f"directory: files in it ({directory.BLOCKS})"
    parser.add_argument("--blocks", type=at_least(1), default=directory.BLOCKS, help=text)
    options = parser.parse_args(arguments)
    return own.finish(
        NAME, options, lambda model: PARTS[options.part](model, options, options.directory)
    )


if __name__ == "__main__":
    raise SystemExit(main())
