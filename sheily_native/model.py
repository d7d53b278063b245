"""A loaded GGUF: its vocabulary, metadata and tokenizer; knows nothing of contexts or of chats."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import kernels
from ._library import library
from ._status import check
from ._threads import default_threads
from .errors import InvalidArgumentError, ModelLoadError, NativeError, TooManyTokensError
from .handle import Handle

_PROGRESS_INTERVAL_S = 0.05
_NEARLY_ALL = 0.999  # 1 is reported once, when the model is there


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Shape and vocabulary of a model; counts, and `n_bytes` of all tensors in bytes.

    `token_bos`, `token_eos` and `token_eot` are None where the vocabulary has none. `kernel` names
    the kernel that Q8_0 weights, if there are any, were repacked for, and that computes attention;
    None for llama.cpp's own.
    """

    n_vocab: int
    n_ctx_train: int
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    token_bos: int | None
    token_eos: int | None
    token_eot: int | None
    add_bos: bool
    has_decoder: bool
    is_recurrent: bool
    n_params: int
    n_bytes: int
    kernel: str | None


class Model(Handle):
    """A GGUF file loaded for the CPU.

    May be shared by threads: tokenizing and looking up pieces is thread-safe. Close it, or leave
    its `with` block, after every `Context` made from it was closed.

    `progress` is called on the calling thread with a fraction from 0 to 1 while the file loads;
    raising from it cancels the load. `kernel` is one of `kernels.names()`, "auto" for the best that
    this CPU can run, "off" for the stock kernels; None takes the environment's `SHEILY_KERNEL`, or
    "auto". `n_threads` threads repack the weights; None takes one for each usable CPU.
    `use_extra_buffers=False` keeps the weights as they are in the file, for comparison.
    `vocab_only=True` loads the tokenizer alone.

    Raises ModelLoadError (with the path and llama.cpp's reason), InvalidArgumentError for a kernel
    that is not known or not for this CPU, IncompatibleCPUError or NotBuiltError.
    """

    _KIND = "model"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[float], None] | None = None,
        use_mmap: bool = True,
        use_extra_buffers: bool = True,
        kernel: str | None = None,
        n_threads: int | None = None,
        vocab_only: bool = False,
    ) -> None:
        self.path = os.path.abspath(os.fspath(path))
        if not os.path.isfile(self.path):
            raise ModelLoadError(f"there is no model file at {self.path}")
        ffi, _ = library()
        kernel_name = ffi.new("char[]", (kernel or kernels.from_environment()).encode())
        params = ffi.new(
            "sn_model_params *",
            {
                "use_mmap": use_mmap,
                "use_extra_buffers": use_extra_buffers,
                "vocab_only": vocab_only,
                "kernel": kernel_name,
                "n_threads": n_threads or default_threads(),
            },
        )
        self._handle = _load(self.path, params, progress)
        try:
            self.info = _info(self._handle)
            self.metadata: Mapping[str, str] = _metadata(self._handle)
        except BaseException:
            self.close()
            raise

    def tokenize(
        self, text: str | bytes, *, special: bool = False, most: int | None = None
    ) -> list[int]:
        """Tokenizes `text` (UTF-8); adds no BOS or EOS.

        `special=True` turns the text of a control token such as `<|eot_id|>` into that token: only
        for text that the program itself wrote. With False such text stays ordinary characters;
        tokens of the type USER_DEFINED match all the same (see `is_user_defined`).

        Raises TooManyTokensError when there are more than `most` tokens, before it makes a list of
        them, and InvalidArgumentError when `most` is negative.
        """
        if most is not None and most < 0:
            raise InvalidArgumentError(f"most is {most}, which is negative")
        ffi, lib = library()
        data = text.encode("utf-8") if isinstance(text, str) else text
        capacity = len(data) + 1  # a token covers at least one byte
        if most is not None:
            capacity = min(capacity, most + 1)
        tokens = ffi.new("int32_t[]", capacity)
        count = ffi.new("int32_t *")
        status = lib.sn_tokenize(self.handle, data, len(data), special, tokens, capacity, count)
        if most is not None and count[0] > most:
            raise TooManyTokensError(count[0], most)
        if status == lib.SN_BUFFER_TOO_SMALL:  # normalizing made the text longer
            capacity = count[0]
            tokens = ffi.new("int32_t[]", capacity)
            status = lib.sn_tokenize(self.handle, data, len(data), special, tokens, capacity, count)
        check(status)
        return list(ffi.unpack(tokens, count[0])) if count[0] else []

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Returns the bytes that a token stands for, which may be part of a character.

        A control token gives b"", or its text such as b"<|eot_id|>" with `special=True`.
        """
        ffi, lib = library()
        size = 64
        count = ffi.new("int32_t *")
        while True:
            buffer = ffi.new("char[]", size)
            status = lib.sn_piece(self.handle, token, special, buffer, size, count)
            if status != lib.SN_BUFFER_TOO_SMALL:
                check(status)
                return bytes(ffi.buffer(buffer, count[0]))
            size = count[0]

    def is_end(self, token: int) -> bool:
        """Whether the token ends a generation (end of text, of turn, of message)."""
        return bool(library()[1].sn_is_end(self.handle, token))

    def is_control(self, token: int) -> bool:
        """Whether the token is a control token, which no plain text can produce."""
        return bool(library()[1].sn_is_control(self.handle, token))

    def is_user_defined(self, token: int) -> bool:
        """Whether the token is matched in plain text too, whatever `special` says."""
        return bool(library()[1].sn_is_user_defined(self.handle, token))

    def _free(self, handle: Any) -> None:
        library()[1].sn_model_free(handle)


def _token_or_none(token: int) -> int | None:
    return None if token < 0 else token


def _load(path: str, params: Any, progress: Callable[[float], None] | None) -> Any:
    """Loads the model; if progress is wanted, on another thread, and reports from this one."""
    ffi, lib = library()
    state = _new_progress()
    out = ffi.new("sn_model **")
    failure: list[NativeError] = []

    def load() -> None:
        try:
            check(lib.sn_model_load(os.fsencode(path), params, state, out))
        except NativeError as error:
            failure.append(error)

    thread = threading.Thread(target=load, name="model-load")
    try:
        if progress is None:
            load()
        else:
            thread.start()
            while thread.is_alive():
                progress(min(lib.sn_progress_fraction(state), _NEARLY_ALL))
                thread.join(_PROGRESS_INTERVAL_S)
            if not failure:
                progress(1.0)
    except BaseException:
        lib.sn_progress_cancel(state)
        if thread.ident is not None:
            thread.join()
        lib.sn_model_free(out[0])  # null if nothing was loaded
        raise
    if failure:
        raise type(failure[0])(f"cannot load {path}: {failure[0]}") from failure[0]
    return out[0]


def _new_progress() -> Any:
    """Makes what a load and other threads share; it is freed when none of them holds it."""
    ffi, lib = library()
    out = ffi.new("sn_progress **")
    check(lib.sn_progress_new(out))
    return ffi.gc(out[0], lib.sn_progress_free)


def _info(handle: Any) -> ModelInfo:
    ffi, lib = library()
    native = ffi.new("sn_model_info *")
    lib.sn_model_info_get(handle, native)
    return ModelInfo(
        n_vocab=native.n_vocab,
        n_ctx_train=native.n_ctx_train,
        n_embd=native.n_embd,
        n_layer=native.n_layer,
        n_head=native.n_head,
        n_head_kv=native.n_head_kv,
        token_bos=_token_or_none(native.token_bos),
        token_eos=_token_or_none(native.token_eos),
        token_eot=_token_or_none(native.token_eot),
        add_bos=bool(native.add_bos),
        has_decoder=bool(native.has_decoder),
        is_recurrent=bool(native.is_recurrent),
        n_params=native.n_params,
        n_bytes=native.n_bytes,
        kernel=kernels.name(native.kernel),
    )


def _metadata(handle: Any) -> dict[str, str]:
    """Reads the scalar GGUF metadata as text; llama.cpp leaves arrays (the vocabulary) out."""
    ffi, lib = library()

    def text(read: Callable[[Any, int, Any, int], int], i: int) -> str:
        size = 256
        while True:
            buffer = ffi.new("char[]", size)
            length = read(handle, i, buffer, size)
            if length < size:
                return bytes(ffi.buffer(buffer, max(length, 0))).decode("utf-8", "replace")
            size = length + 1

    count = lib.sn_model_metadata_count(handle)
    return {
        text(lib.sn_model_metadata_key, i): text(lib.sn_model_metadata_value, i)
        for i in range(count)
    }
