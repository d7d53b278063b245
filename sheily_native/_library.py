"""Loads the compiled module once, after checking the CPU; the only module that imports it."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from ._typed import REBUILD, install
from .build import BuildInfo, chosen
from .errors import IncompatibleCPUError, NotBuiltError

# How long an OpenMP thread spins for the others before it sleeps, in turns of libgomp's loop. Its
# own 300,000 are about a millisecond, hundreds of times a token: with any other program on the same
# cores that is most of the time. docs/design/adr/0006-threads-spin-briefly.md has figures.
SPIN_COUNT = "1000"


@functools.cache
def library() -> tuple[Any, Any]:
    """Returns cffi's `ffi` and `lib` of the compiled module, which the first call loads.

    Raises NotBuiltError if it is missing or cannot be loaded, and IncompatibleCPUError, before
    anything native is loaded, if it was built with instruction sets that this CPU does not have.
    """
    info, path = chosen()
    refuse_other_cpu(info)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read when libgomp is loaded
    try:
        if path is not None:
            _load(path)
        from ._native import ffi, lib
    except ImportError as error:
        raise NotBuiltError(
            f"the compiled part of sheily_native cannot be loaded ({error}): {_remedy()}"
        ) from error
    return ffi, lib


def _load(path: Path) -> None:
    """Loads the module from the folder of one of several builds."""
    name = f"{__package__}._native"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a module")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _remedy() -> str:
    """Says what to type. In a source folder Python imports the sources, not what was installed."""
    source = Path(__file__).resolve().parent.parent
    if (source / "CMakeLists.txt").exists():
        return (
            f"these are the sources in {source}; run `{install('-e', '.')}` there, or start Python "
            f"in another folder after `{install('.')}`"
        )
    return f"build it again with `{REBUILD}` in its source folder"


def refuse_other_cpu(info: BuildInfo) -> None:
    """Raises IncompatibleCPUError if this CPU does not have what the library may use."""
    if info.missing:
        raise IncompatibleCPUError(
            f"sheily_native was built for another CPU: {info.cpu_model} does not have "
            f"{', '.join(info.missing)}; build it for this machine with `{REBUILD}` in its source "
            "folder"
        )
