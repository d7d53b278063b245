"""The exceptions of the native library."""

from __future__ import annotations


class NativeError(Exception):
    """Base of everything `sheily_native` raises on purpose."""


class NotBuiltError(NativeError):
    """The compiled library is missing, or this Python cannot load it."""


class IncompatibleCPUError(NativeError):
    """The library was built with instruction sets that this CPU does not have."""


class InvalidArgumentError(NativeError, ValueError):
    """A value that llama.cpp would not survive was refused; nothing was changed."""


class OutOfMemoryError(NativeError, MemoryError):
    """An allocation failed."""


class ModelLoadError(NativeError):
    """The model file is missing, broken or of a kind that llama.cpp does not know."""


class KVFullError(NativeError):
    """The KV cache has no room for the step; nothing was computed."""


class AbortedError(NativeError):
    """A load was cancelled or a step was aborted."""


class DecodeError(NativeError):
    """A step failed half way: the cells of its sequences may be wrong."""


class ClosedError(NativeError):
    """A handle was used after it was closed."""


class WrongThreadError(NativeError):
    """A context was used by another thread than the one that made it."""


class TooManyTokensError(NativeError):
    """A text has `count` tokens, which is more than the caller wants."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"the text has {count} tokens, more than {most}")
        self.count = count
