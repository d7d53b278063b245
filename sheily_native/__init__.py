"""llama.cpp for one machine's CPU: load a GGUF, tokenize, decode many sequences, sample.

Importing this package loads no native code: `build_info()` works on any machine, and the first
`Model` checks that the CPU has what the library was built with before it is loaded.
"""

from . import kernels
from .build import BuildInfo, build_info
from .context import Context, Entry
from .errors import (
    AbortedError,
    ClosedError,
    DecodeError,
    IncompatibleCPUError,
    InvalidArgumentError,
    KVFullError,
    ModelLoadError,
    NativeError,
    NotBuiltError,
    OutOfMemoryError,
    TooManyTokensError,
    WrongThreadError,
)
from .log import set_log_level
from .model import Model, ModelInfo
from .sampling import Sampled, Sampler, SamplingParams, TokenLogprob

__all__ = [
    "AbortedError",
    "BuildInfo",
    "ClosedError",
    "Context",
    "DecodeError",
    "Entry",
    "IncompatibleCPUError",
    "InvalidArgumentError",
    "KVFullError",
    "Model",
    "ModelInfo",
    "ModelLoadError",
    "NativeError",
    "NotBuiltError",
    "OutOfMemoryError",
    "Sampled",
    "Sampler",
    "SamplingParams",
    "TokenLogprob",
    "TooManyTokensError",
    "WrongThreadError",
    "build_info",
    "kernels",
    "set_log_level",
]
