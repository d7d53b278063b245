"""The one door to the compiled module: loads it once, after the CPU was checked; knows no model."""

from __future__ import annotations

import functools
from typing import Any

from .build import BuildInfo, build_info
from .errors import IncompatibleCPUError, NotBuiltError, error_for

SN_OK = 0


@functools.cache
def library() -> tuple[Any, Any]:
    """cffi's `ffi` and `lib` of the compiled module, loaded at the first call.

    Raises NotBuiltError if it is not there or cannot be loaded, and IncompatibleCPUError, before
    anything native is loaded, if it was built with instruction sets that this CPU does not have.
    """
    refuse_other_cpu(build_info())
    try:
        from ._native import ffi, lib
    except ImportError as error:
        raise NotBuiltError(
            f"the compiled part of sheily_native cannot be loaded ({error}): build it again with "
            "`pip install --force-reinstall --no-deps .` in its source folder"
        ) from error
    return ffi, lib


def refuse_other_cpu(info: BuildInfo) -> None:
    """Raises IncompatibleCPUError if the library may use what this CPU does not have."""
    if info.missing:
        raise IncompatibleCPUError(
            f"sheily_native was built for another CPU: {info.cpu_model} does not have "
            f"{', '.join(info.missing)}; build it for this machine with `pip install "
            "--force-reinstall --no-deps .` in its source folder"
        )


def check(status: int) -> None:
    """Raises the exception for a status other than SN_OK, with the library's own sentence."""
    if status != SN_OK:
        ffi, lib = library()
        raise error_for(status, ffi.string(lib.sn_last_error()).decode("utf-8", "replace"))
