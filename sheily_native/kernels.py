"""Kernels for Q8_0 weights and attention: lists them, runs one alone, measures the CPU's limits."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from ._library import library
from ._status import check
from ._threads import default_threads
from .errors import InvalidArgumentError

VARIABLE = "SHEILY_KERNEL"
"""The environment variable that forces a kernel, or "off"."""

AUTO = "auto"
OFF = "off"
BLOCK = 32
BLOCK_BYTES = 34
"""A Q8_0 block: a half-precision scale and 32 int8 (llama.cpp, ggml-common.h, block_q8_0)."""


def names() -> list[str]:
    """Lists the kernels of this build, best first, whether or not this CPU can run them."""
    ffi, lib = library()
    return [ffi.string(lib.sn_kernel_name(i)).decode() for i in range(lib.sn_kernel_count())]


def usable() -> list[str]:
    """Lists those of `names()` that this CPU can run."""
    _, lib = library()
    return [name for i, name in enumerate(names()) if lib.sn_kernel_runs_here(i)]


def name(number: int) -> str | None:
    """Returns the kernel with a number of the native library; None for -1, llama.cpp's own."""
    return None if number < 0 else names()[number]


def from_environment() -> str:
    """Returns the value of `SHEILY_KERNEL`; "auto" where it is not set or empty."""
    return os.environ.get(VARIABLE) or AUTO


def multiply(
    kernel: str,
    weights: npt.NDArray[np.uint8],
    tokens: npt.NDArray[np.float32],
    *,
    n_threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Computes one product as a model's graph would, for tests.

    `weights`: (rows, columns / 32, 34) bytes of Q8_0 blocks; `tokens`: (tokens, columns). Returns
    (tokens, rows). `kernel` may be "off". Raises InvalidArgumentError for shapes that do not fit,
    or a kernel that this CPU cannot run.
    """
    if weights.ndim != 3 or weights.shape[2] != BLOCK_BYTES or tokens.ndim != 2:
        raise InvalidArgumentError(f"shapes {weights.shape} and {tokens.shape} do not fit")
    rows, blocks, _ = weights.shape
    if tokens.shape[1] != blocks * BLOCK:
        raise InvalidArgumentError(f"{blocks} blocks do not fit {tokens.shape[1]} columns")
    ffi, lib = library()
    out = np.empty((tokens.shape[0], rows), np.float32)
    check(
        lib.sn_kernel_multiply(
            _number_or_stock(kernel),
            ffi.from_buffer("uint8_t[]", np.ascontiguousarray(weights)),
            rows,
            blocks * BLOCK,
            ffi.from_buffer("float[]", np.ascontiguousarray(tokens, np.float32)),
            tokens.shape[0],
            n_threads,
            ffi.from_buffer("float[]", out, require_writable=True),
        )
    )
    return out


def attend(
    kernel: str,
    q: npt.NDArray[np.float32],
    k: npt.NDArray[Any],
    v: npt.NDArray[Any],
    *,
    mask: npt.NDArray[np.float16],
    scale: float,
    n_threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Computes one attention as a model's graph would, for tests.

    `q`: (tokens, heads, width). `k`, `v`: (cells, kv_heads, width) float16, or (cells, kv_heads,
    width / 32, 34) bytes of Q8_0 blocks. `mask`: (tokens, cells), added to the scores. Returns the
    shape of `q`. `kernel` may be "off". Raises InvalidArgumentError as `multiply` does.
    """
    tokens, heads, width = q.shape
    quantized = k.dtype == np.uint8
    row = (width // BLOCK, BLOCK_BYTES) if quantized else (width,)
    if k.shape != v.shape or k.dtype != v.dtype or k.shape[2:] != row:
        raise InvalidArgumentError(f"k {k.shape} and v {v.shape} do not fit q {q.shape}")
    if mask.shape != (tokens, k.shape[0]):
        raise InvalidArgumentError(f"the mask {mask.shape} is not {(tokens, k.shape[0])}")
    ffi, lib = library()
    out = np.empty(q.shape, np.float32)
    arrays = [
        ffi.from_buffer("float[]", np.ascontiguousarray(q, np.float32)),
        *(ffi.from_buffer("uint8_t[]", np.ascontiguousarray(x).view(np.uint8)) for x in (k, v)),
        ffi.from_buffer("uint16_t[]", np.ascontiguousarray(mask).view(np.uint16)),
        ffi.from_buffer("float[]", out, require_writable=True),
    ]
    kv_type = lib.SN_KV_Q8_0 if quantized else lib.SN_KV_F16
    sizes = (tokens, heads, k.shape[1], k.shape[0], width, kv_type, scale)
    wanted = ffi.new("sn_attention *", [*sizes, *arrays])
    check(lib.sn_kernel_attend(_number_or_stock(kernel), wanted, n_threads))
    return out


def memory_bandwidth(
    *, n_threads: int | None = None, n_bytes: int = 1 << 30, seconds: float = 1.0
) -> float:
    """Measures bytes read from memory a second: the best of the runs that fit into `seconds`."""
    ffi, lib = library()
    out = ffi.new("double *")
    check(lib.sn_measure_bandwidth(n_threads or default_threads(), n_bytes, seconds, out))
    return float(out[0])


def integer_peak(kernel: str, *, n_threads: int | None = None, seconds: float = 0.5) -> float:
    """Measures the 8-bit multiply-adds a second of a kernel's instructions, without memory.

    Raises InvalidArgumentError for a kernel that this CPU cannot run.
    """
    ffi, lib = library()
    out = ffi.new("double *")
    check(lib.sn_measure_peak(_number(kernel), n_threads or default_threads(), seconds, out))
    return float(out[0])


def _number_or_stock(kernel: str) -> int:
    return -1 if kernel == OFF else _number(kernel)


def _number(kernel: str) -> int:
    known = names()
    if kernel not in known:
        raise InvalidArgumentError(f"there is no kernel {kernel!r}; known are {', '.join(known)}")
    return known.index(kernel)
