"""Turns the status of a native call into an exception."""

from __future__ import annotations

import functools

from ._library import library
from .errors import (
    AbortedError,
    DecodeError,
    InvalidArgumentError,
    KVFullError,
    ModelLoadError,
    NativeError,
    OutOfMemoryError,
)


def check(status: int) -> None:
    """Raises the exception for an `sn_status` (csrc/api.h), with the sentence that the call left
    behind on this thread. Does nothing for SN_OK."""
    ffi, lib = library()
    if status != lib.SN_OK:
        sentence = ffi.string(lib.sn_last_error()).decode("utf-8", "replace")
        raise _errors().get(status, NativeError)(sentence)


@functools.cache
def _errors() -> dict[int, type[NativeError]]:
    _, lib = library()
    return {
        lib.SN_INVALID_ARGUMENT: InvalidArgumentError,
        lib.SN_OUT_OF_MEMORY: OutOfMemoryError,
        lib.SN_LOAD_FAILED: ModelLoadError,
        lib.SN_KV_FULL: KVFullError,
        lib.SN_ABORTED: AbortedError,
        lib.SN_DECODE_FAILED: DecodeError,
    }
