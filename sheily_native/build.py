"""How the compiled library was built, and how that fits this CPU; loads no native code."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ._typed import REBUILD, install
from .cpu import Cpu, current_cpu, missing, unused
from .errors import NotBuiltError

INFO_FILE = "build_info.json"


@dataclass(frozen=True)
class BuildInfo:
    """How the library was built, and how that fits this machine's CPU.

    Instruction sets have their Linux names (/proc/cpuinfo). `instruction_sets` are those that the
    compiler was allowed to use; `unlisted_instruction_sets` the same of those that Linux does not
    list, which are taken as present only on a CPU of the kind `built_for`. `missing` are built in
    but not on this CPU: the library will not be loaded. `unused` are on this CPU and not built in.
    """

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
    """Reads the build's record and compares it with this CPU.

    Raises NotBuiltError if the library is not built, or its record cannot be read.
    """
    path = _info_path()
    try:
        built = json.loads(path.read_text(encoding="utf-8"))
        return _compare(built, current_cpu())
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
