"""How the compiled library was built, and how that fits this CPU; loads no native code."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ._typed import REBUILD, install
from .cpu import Cpu, current_cpu, missing, unused
from .errors import NotBuiltError

INFO_FILE = "build_info.json"
FURTHER_BUILDS = "builds"
"""The folder of a portable wheel's further builds, which use more of a CPU than the one beside this
file."""
VARIABLE = "SHEILY_BUILD"
"""The environment variable that chooses one of several builds by its name."""


@dataclass(frozen=True)
class BuildInfo:
    """How the library was built, and how that fits this machine's CPU.

    `name` is "native" for a build for the CPU of the machine that built it, "custom" for one with
    other options, and a portable wheel's own name (v2, v3, v4: levels of x86-64).
    Instruction sets have their Linux names (/proc/cpuinfo). `instruction_sets` are those that the
    compiler was allowed to use; `unlisted_instruction_sets` the same of those that Linux does not
    list, which are taken as present only on a CPU of the kind `built_for`. `missing` are built in
    but not on this CPU: the library will not be loaded. `unused` are on this CPU and not built in.
    """

    name: str
    version: str
    llama_cpp_build: int
    compiler: str
    build_type: str
    architecture: str
    flags: tuple[str, ...]
    options: Mapping[str, str]
    instruction_sets: tuple[str, ...]
    unlisted_instruction_sets: tuple[str, ...]
    built_for: str
    cpu_model: str
    cpu_instruction_sets: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def build_info() -> BuildInfo:
    """Returns the build that is loaded here, compared with this CPU: of several, the one that uses
    most of what the CPU has, or that $SHEILY_BUILD names. If none fits, the one that lacks least.

    Raises NotBuiltError if the library is not built, if its record cannot be read, and for a name
    in $SHEILY_BUILD that no build has.
    """
    return chosen()[0]


def chosen() -> tuple[BuildInfo, Path | None]:
    """Returns `build_info` and the path of its compiled module; None for the module that Python
    finds by its name. Raises NotBuiltError."""
    cpu = current_cpu()
    first = _read(_info_path(), cpu)
    found: list[tuple[BuildInfo, Path | None]] = [(first, None)]
    found += [(_read(record, cpu), module) for record, module in _further_builds()]
    wanted = os.environ.get(VARIABLE)
    if wanted:
        named = [each for each in found if each[0].name == wanted]
        if not named:
            names = ", ".join(info.name for info, _ in found)
            raise NotBuiltError(f"{VARIABLE} is {wanted!r}, and there is no such build: {names}")
        return named[0]
    if cpu.flags is None:
        return found[0]
    return min(found, key=lambda each: (len(each[0].missing), -len(each[0].instruction_sets)))


def _further_builds() -> Iterator[tuple[Path, Path]]:
    """Yields the record and the compiled module of each."""
    folder = Path(__file__).with_name(FURTHER_BUILDS)
    for record in sorted(folder.glob(f"*/{INFO_FILE}")):
        for module in record.parent.glob("_native.*"):
            yield record, module


def _read(path: Path, cpu: Cpu) -> BuildInfo:
    try:
        return _compare(json.loads(path.read_text(encoding="utf-8")), cpu)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotBuiltError(
            f"{path} cannot be read ({error!r}): build again with `{REBUILD}` in the source folder"
        ) from error


def _compare(built: Mapping[str, object], cpu: Cpu) -> BuildInfo:
    """Compares build_info.json, which cmake/write_build_info.py writes, with a CPU.

    Raises KeyError, TypeError.
    """
    options = built["options"]
    if not isinstance(options, dict):
        raise TypeError("options is not an object")
    listed = _names(built["instruction_sets"])
    unlisted = _names(built["unlisted_instruction_sets"])
    lacking = missing(listed, cpu)
    if unlisted and cpu.flags is not None and cpu.kind != built["built_for"]:
        lacking += unlisted
    return BuildInfo(
        name=str(built["name"]),
        version=str(built["version"]),
        llama_cpp_build=int(str(built["llama_cpp_build"])),
        compiler=str(built["compiler"]),
        build_type=str(built["build_type"]),
        architecture=str(built["architecture"]),
        flags=_names(built["flags"]),
        options=MappingProxyType({str(name): str(value) for name, value in options.items()}),
        instruction_sets=listed,
        unlisted_instruction_sets=unlisted,
        built_for=str(built["built_for"]),
        cpu_model=cpu.model,
        cpu_instruction_sets=tuple(sorted(cpu.flags or ())),
        missing=lacking,
        unused=unused(listed, cpu),
    )


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"not a list: {value!r}")
    return tuple(str(name) for name in value)


def _info_path() -> Path:
    """Finds the build's record: beside this file, or (editable install) beside the library."""
    here = Path(__file__).with_name(INFO_FILE)
    if here.is_file():
        return here
    spec = importlib.util.find_spec(f"{__package__}._native")
    if spec is not None and spec.origin is not None:
        there = Path(spec.origin).with_name(INFO_FILE)
        if there.is_file():
            return there
    raise NotBuiltError(
        f"the compiled part of sheily_native is not in {here.parent}: run `{install('.')}`, "
        f"or `{install('-e', '.')}` to use it from its source folder"
    )
