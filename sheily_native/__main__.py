"""`python -m sheily_native`: says how the library was built and how that fits this CPU."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ._version import ShowVersion
from .build import BuildInfo, build_info
from .errors import NotBuiltError


def describe(info: BuildInfo) -> str:
    """The build as lines for people."""
    built_in = (*info.instruction_sets, *info.unlisted_instruction_sets)
    lines = [
        ("sheily_native", f"{info.version}, llama.cpp b{info.llama_cpp_build}"),
        ("build", info.name),
        ("compiler", f"{info.compiler}, {info.build_type}, {info.architecture}"),
        ("compiler flags", " ".join(info.flags) or "none"),
        ("options", " ".join(f"{name}={value}" for name, value in info.options.items())),
        ("built in", " ".join(built_in) or "nothing beyond the architecture's baseline"),
        ("this CPU", info.cpu_model),
        ("missing here", " ".join(info.missing) or "nothing: the library runs on this CPU"),
        ("not used", " ".join(info.unused) or "nothing: all that this CPU offers is used"),
    ]
    return "\n".join(f"{name:<15} {value}" for name, value in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the build; exit code 0 if the library may be loaded here, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m sheily_native",
        description="Show how the library was built and how that fits this CPU; exit code 1 if it "
        "cannot be loaded here. The program sheily_native.tune finds the fastest settings.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.parse_args(arguments)
    try:
        info = build_info()
    except NotBuiltError as error:
        print(error, file=sys.stderr)
        return 1
    print(describe(info))
    return 1 if info.missing else 0


if __name__ == "__main__":
    sys.exit(main())
