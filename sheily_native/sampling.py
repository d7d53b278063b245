"""How a token is chosen: validated parameters, and the native sampler of one sequence."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ._library import library
from ._status import check
from .handle import Handle


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Temperature is applied first, then top_k, top_p and min_p; penalties and bias before all.

    - `temperature`: 0 is greedy (the lowest id among equal logits).
    - `top_k`: 0 is off. `top_p`: in (0, 1]. `min_p`: in [0, 1], relative to the best token.
    - `repeat_penalty`: > 0, 1 is off; divides positive and multiplies negative logits of tokens
      seen in prompt or answer (Keskar et al. 2019, CTRL).
    - `frequency_penalty`, `presence_penalty`: as OpenAI defines them, over generated tokens:
      `logit -= count * frequency + (count > 0) * presence`.
    - `logit_bias`: token id -> added to the logit; minus infinity forbids the token. Many are best
      given as two arrays of one length, of ids and of what is added.
    - `seed`: any integer, taken modulo 2**64; None draws one. The i-th token depends on the seed, i
      and the logits alone.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Mapping[int, float] | tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, its natural log-probability in the model's own distribution (before temperature,
    penalties, bias and mask), and the best alternatives as (token, logprob), best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Sampled:
    """The result of one row of a step: 1 to (drafts + 1) tokens, and logprobs where asked for."""

    tokens: list[int]
    logprobs: list[TokenLogprob] | None = None


class SampledBuffers:
    """Native memory that the result of one row is written to."""

    def __init__(self, n_draft: int, top_logprobs: int | None) -> None:
        ffi, _ = library()
        capacity = n_draft + 1
        self._n_top = -1 if top_logprobs is None else top_logprobs
        n_top = max(self._n_top, 0) * capacity
        self._tokens = ffi.new("int32_t[]", capacity)
        self._logprobs = ffi.new("float[]", capacity if top_logprobs is not None else 0)
        self._top_tokens = ffi.new("int32_t[]", n_top)
        self._top_logprobs = ffi.new("float[]", n_top)

    def attach(self, native: Any) -> None:
        """Points an `sn_sampled` at these buffers, which must outlive it."""
        native.tokens = self._tokens
        native.logprobs = self._logprobs
        native.top_tokens = self._top_tokens
        native.top_logprobs = self._top_logprobs

    def read(self, n_tokens: int) -> Sampled:
        """Copies the result, which has `n_tokens` tokens."""
        tokens = [int(self._tokens[i]) for i in range(n_tokens)]
        if self._n_top < 0:
            return Sampled(tokens)
        return Sampled(tokens, [self._logprob(i, token) for i, token in enumerate(tokens)])

    def _logprob(self, i: int, token: int) -> TokenLogprob:
        places = range(i * self._n_top, (i + 1) * self._n_top)
        top = tuple((int(self._top_tokens[k]), float(self._top_logprobs[k])) for k in places)
        return TokenLogprob(token, float(self._logprobs[i]), top)


class Sampler(Handle):
    """Chooses the tokens of one sequence and remembers which it chose.

    Only `repeat_penalty` reads `prompt`. One thread at a time may use it.
    Raises InvalidArgumentError when a parameter is out of range.
    """

    _KIND = "sampler"

    def __init__(self, n_vocab: int, params: SamplingParams, prompt: Sequence[int] = ()) -> None:
        ffi, lib = library()
        seed = secrets.randbits(64) if params.seed is None else params.seed % 2**64
        bias = params.logit_bias
        if isinstance(bias, Mapping):
            bias = (
                np.fromiter(bias, np.int32, len(bias)),
                np.fromiter(bias.values(), np.float32, len(bias)),
            )
        bias_tokens = ffi.from_buffer("int32_t[]", np.ascontiguousarray(bias[0], np.int32))
        bias_values = ffi.from_buffer("float[]", np.ascontiguousarray(bias[1], np.float32))
        native = ffi.new(
            "sn_sampling *",
            {
                "temperature": params.temperature,
                "top_k": params.top_k,
                "top_p": params.top_p,
                "min_p": params.min_p,
                "repeat_penalty": params.repeat_penalty,
                "frequency_penalty": params.frequency_penalty,
                "presence_penalty": params.presence_penalty,
                "seed": seed,
                "n_bias": min(len(bias_tokens), len(bias_values)),
                "bias_tokens": bias_tokens,
                "bias_values": bias_values,
            },
        )
        out = ffi.new("sn_sampler **")
        tokens = ffi.new("int32_t[]", list(prompt))
        check(lib.sn_sampler_new(n_vocab, native, tokens, len(prompt), out))
        self._handle = out[0]
        self.n_vocab = n_vocab

    def sample(
        self,
        logits: npt.NDArray[np.float32],
        *,
        mask: npt.NDArray[np.uint32] | None = None,
        top_logprobs: int | None = None,
    ) -> Sampled:
        """Chooses from a row of `n_vocab` float32 logits that the caller holds.

        `mask` is as in `Entry`. Raises ValueError for another shape or type.
        """
        if logits.shape != (self.n_vocab,) or logits.dtype != np.float32:
            raise ValueError(f"logits must be {self.n_vocab} float32, not {logits.shape}")
        ffi, lib = library()
        row = ffi.from_buffer("float[]", np.ascontiguousarray(logits))
        words = ffi.NULL if mask is None else mask_pointer(mask, 1, self.n_vocab)
        buffers = SampledBuffers(0, top_logprobs)
        native = ffi.new("sn_sampled *")
        buffers.attach(native)
        n_top = -1 if top_logprobs is None else top_logprobs
        check(lib.sn_sampler_sample(self.handle, row, words, n_top, native))
        return buffers.read(native.n_tokens)

    def _free(self, handle: Any) -> None:
        library()[1].sn_sampler_free(handle)

    def __del__(self) -> None:
        self.close()


def mask_pointer(mask: npt.NDArray[np.uint32], n_rows: int, n_vocab: int) -> Any:
    """Points to a token mask of shape (n_rows, ceil(n_vocab / 32)) or, for one row, a flat one.

    Bit `i % 32` of word `i // 32` set: token i is allowed. Raises ValueError for another shape.
    """
    words = (n_vocab + 31) // 32
    if mask.dtype != np.uint32 or mask.size != n_rows * words or not mask.flags.c_contiguous:
        raise ValueError(f"a mask must be {n_rows} x {words} contiguous uint32, not {mask.shape}")
    return library()[0].from_buffer("uint32_t[]", mask)
