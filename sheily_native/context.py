"""A KV cache with its compute buffers: one step decodes a batch over many sequences and samples."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ._library import library
from ._status import check
from ._threads import default_threads
from .errors import InvalidArgumentError, WrongThreadError
from .handle import Handle
from .model import Model
from .sampling import Sampled, SampledBuffers, Sampler, mask_pointer

KVType = Literal["f16", "q8_0"]
KV_TYPES: tuple[KVType, ...] = get_args(KVType)


@dataclass(frozen=True, slots=True)
class Entry:
    """The part of one sequence in a step: its next tokens, and what to sample after them.

    - `tokens` are appended to the sequence; positions follow from its length.
    - `sampler` samples the token after the last of `tokens`; None: nothing is sampled.
    - `drafts`: guesses of what comes next, verified in the same step. While a sampled token equals
      the guess, one more is sampled; cells of wrong guesses are removed again.
    - `mask`: which tokens may be sampled, uint32 bits of shape (len(drafts) + 1, ceil(n_vocab/32)).
    - `top_logprobs`: None for no logprobs, else 0 to 20 alternatives for each sampled token.
    - `logits`: keeps the row of the last token for `Context.logits` when nothing is sampled.

    Raises InvalidArgumentError for drafts, a mask or logprobs without a sampler.
    """

    sequence: int
    tokens: Sequence[int]
    sampler: Sampler | None = None
    drafts: Sequence[int] = ()
    mask: npt.NDArray[np.uint32] | None = None
    top_logprobs: int | None = None
    logits: bool = False

    def __post_init__(self) -> None:
        if self.sampler is None and (self.drafts or self.mask is not None or self.top_logprobs):
            raise InvalidArgumentError("drafts, a mask and logprobs need a sampler")

    @property
    def has_row(self) -> bool:
        """Whether the step computes logits after the last token."""
        return self.sampler is not None or self.logits


class Context(Handle):
    """KV cells shared by up to `n_seq_max` sequences of one model.

    `n_ctx` is the number of cells in all, `n_batch` the most tokens of a step, `n_ubatch` the most
    in one pass over the weights, `n_outputs_max` the most rows of logits of a step. Sizes are
    counts of tokens. Only the thread that made a context may use it; `abort()` and `heartbeat` are
    for any thread.

    Raises InvalidArgumentError, or OutOfMemoryError when the cells do not fit into memory.
    """

    _KIND = "context"

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int = 4096,
        n_seq_max: int = 1,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_outputs_max: int | None = None,
        n_threads: int | None = None,
        flash_attention: bool | None = None,
        kv_type: KVType = "f16",
    ) -> None:
        ffi, lib = library()
        threads = default_threads() if n_threads is None else n_threads
        outputs = max(n_seq_max, 16) if n_outputs_max is None else n_outputs_max
        if kv_type not in KV_TYPES:
            raise InvalidArgumentError(f"kv_type is {kv_type!r}, not one of {list(KV_TYPES)}")
        params = ffi.new(
            "sn_context_params *",
            {
                "n_ctx": n_ctx,
                "n_batch": n_batch,
                "n_ubatch": n_ubatch,
                "n_seq_max": n_seq_max,
                "n_outputs_max": outputs,
                "n_threads": threads,
                "flash_attention": -1 if flash_attention is None else int(flash_attention),
                "kv_type": getattr(lib, f"SN_KV_{kv_type.upper()}"),
            },
        )
        out = ffi.new("sn_context **")
        info = ffi.new("sn_context_info *")  # before the context, which a failure here would leak
        check(lib.sn_context_new(model.handle, params, out))
        self._handle = out[0]
        self._owner = threading.get_ident()
        self.model = model
        lib.sn_context_info_get(self._handle, info)
        self.n_ctx: int = info.n_ctx
        self.n_batch: int = info.n_batch
        self.n_seq_max: int = info.n_seq_max
        self.n_outputs_max: int = info.n_outputs_max
        self.n_threads = threads
        self.kv_bytes: int = info.kv_bytes
        self._row_index: dict[int, int] = {}

    def step(self, entries: Sequence[Entry]) -> list[Sampled | None]:
        """Decodes the entries' tokens in one batch and samples; one result an entry, in order.

        An entry without a sampler gives None. Nothing is changed when InvalidArgumentError (ids,
        sequences, sizes out of range) or KVFullError is raised. After AbortedError or DecodeError
        the sequences of the step must be cleared.
        """
        ffi, lib = library()
        handle = self._owned()
        tokens: list[int] = []
        sequences: list[int] = []
        rows: list[dict[str, Any]] = []
        keep: list[Any] = []
        buffers: list[SampledBuffers] = []
        self._row_index = {}
        for position, entry in enumerate(entries):
            if not entry.tokens:
                raise InvalidArgumentError(f"entry {position} has no tokens")
            tokens += entry.tokens
            if entry.has_row:
                self._row_index[position] = len(tokens) - 1
                buffers.append(SampledBuffers(len(entry.drafts), entry.top_logprobs))
                rows.append(self._row(entry, len(tokens) - 1, keep))
            tokens += entry.drafts
            sequences += [entry.sequence] * (len(entry.tokens) + len(entry.drafts))
        sampled = ffi.new("sn_sampled[]", len(rows))
        for i, buffer in enumerate(buffers):
            buffer.attach(sampled[i])
        # Locals keep alive what the step points to until the call returns.
        arrays = (_int32(tokens), _int32(sequences))
        native_rows = ffi.new("sn_row[]", rows)
        step = ffi.new(
            "sn_step *",
            {
                "n_tokens": len(tokens),
                "tokens": arrays[0],
                "sequences": arrays[1],
                "n_rows": len(rows),
                "rows": native_rows,
                "sampled": sampled,
            },
        )
        check(lib.sn_context_step(handle, step))
        results = iter([buffer.read(sampled[i].n_tokens) for i, buffer in enumerate(buffers)])
        outcomes: list[Sampled | None] = []
        for entry in entries:
            result = next(results) if entry.has_row else None
            outcomes.append(result if entry.sampler is not None else None)
        return outcomes

    def logits(self, entry: int) -> npt.NDArray[np.float32]:
        """Returns the logits after the last token of the last step's `entry`: n_vocab float32.

        They are a view into native memory that the next step overwrites: copy what must be kept.
        Raises InvalidArgumentError when that entry asked for none.
        """
        ffi, lib = library()
        row = lib.sn_context_logits(self._owned(), self._row_index.get(entry, -1))
        if row == ffi.NULL:
            raise InvalidArgumentError(f"entry {entry} of the last step has no logits")
        view = ffi.buffer(row, self.model.info.n_vocab * 4)
        logits: npt.NDArray[np.float32] = np.frombuffer(view, dtype=np.float32)
        return logits

    def length(self, sequence: int) -> int:
        """Returns how many tokens of the sequence are in the KV cache."""
        length: int = library()[1].sn_kv_length(self._owned(), sequence)
        if length < 0:
            raise InvalidArgumentError(f"sequence {sequence} is not in 0 to {self.n_seq_max - 1}")
        return length

    def truncate(self, sequence: int, length: int) -> None:
        """Keeps the first `length` tokens of the sequence; 0 frees all its cells."""
        check(library()[1].sn_kv_truncate(self._owned(), sequence, length))

    def share(self, source: int, target: int, begin: int, end: int) -> None:
        """Replaces the cells of `target` at positions `begin` to `end` - 1 by those of `source`.

        Both sequences own them then; a cell is free once no sequence owns it.

        Raises InvalidArgumentError when `source` ends before `end`, or `target` before `begin`.
        """
        check(library()[1].sn_kv_share(self._owned(), source, target, begin, end))

    def saved_size(self, n_cells: int) -> int:
        """Returns how many bytes `save` makes of so many cells."""
        return int(library()[1].sn_kv_saved_size(self._owned(), n_cells))

    def save(
        self, sequence: int, begin: int, end: int, out: npt.NDArray[np.uint8], *, scratch: int
    ) -> None:
        """Copies the cells of the sequence at positions `begin` to `end` - 1 into `out`, which has
        `saved_size(end - begin)` bytes. They are good at these positions alone, for a context of
        the same model and `kv_type`. `scratch` is a sequence without cells, and has none again.

        Raises InvalidArgumentError, or NativeError for a model whose cells cannot be saved.
        """
        ffi, lib = library()
        data = ffi.from_buffer("uint8_t[]", out, require_writable=True)
        check(lib.sn_kv_save(self._owned(), sequence, scratch, begin, end, data, len(data)))

    def load(
        self, sequence: int, begin: int, end: int, data: npt.NDArray[np.uint8], *, scratch: int
    ) -> None:
        """Adds saved cells to the sequence: those behind its end, which is in `begin` to `end` - 1.

        Raises InvalidArgumentError for bytes that are not those of the cells, and KVFullError when
        there are not end - begin free cells; the sequence then has what it had.
        """
        ffi, lib = library()
        view = ffi.from_buffer("uint8_t[]", data)
        check(lib.sn_kv_load(self._owned(), sequence, scratch, begin, end, view, len(view)))

    def clear(self) -> None:
        """Frees the cells of every sequence."""
        library()[1].sn_kv_clear(self._owned())

    def abort(self, on: bool = True) -> None:
        """Makes the running step, and every one until `abort(False)`, raise AbortedError."""
        library()[1].sn_context_abort(self.handle, on)

    @property
    def heartbeat(self) -> int:
        """CLOCK_MONOTONIC nanoseconds of the last sign of life from inside a step; 0 outside."""
        return int(library()[1].sn_context_heartbeat(self.handle))

    def close(self) -> None:
        """Frees cells and buffers. Closing twice is allowed."""
        if self._handle is not None:
            self._owned()
        super().close()

    def _free(self, handle: Any) -> None:
        library()[1].sn_context_free(handle)

    def _row(self, entry: Entry, index: int, keep: list[Any]) -> dict[str, Any]:
        ffi, _ = library()
        n_draft = len(entry.drafts)
        mask = ffi.NULL
        if entry.mask is not None:
            mask = mask_pointer(entry.mask, n_draft + 1, self.model.info.n_vocab)
            keep.append(mask)
        return {
            "index": index,
            "n_draft": n_draft,
            "sampler": ffi.NULL if entry.sampler is None else entry.sampler.handle,
            "mask": mask,
            "top_logprobs": -1 if entry.top_logprobs is None else entry.top_logprobs,
        }

    def _owned(self) -> Any:
        handle = self.handle
        if threading.get_ident() != self._owner:
            raise WrongThreadError("a context belongs to the thread that made it")
        return handle


def _int32(values: list[int]) -> Any:
    ffi, _ = library()
    try:
        return ffi.new("int32_t[]", values)
    except OverflowError:
        raise InvalidArgumentError("a token or sequence does not fit into 32 bits") from None
