"""Turns the status of a native call into an exception."""

from __future__ import annotations

from ._library import library
from .errors import error_for


def check(status: int) -> None:
    """Does nothing for SN_OK; otherwise raises what csrc/api.h's status stands for, with the
    sentence that the call left behind on this thread."""
    if status != 0:
        ffi, lib = library()
        raise error_for(status, ffi.string(lib.sn_last_error()).decode("utf-8", "replace"))
