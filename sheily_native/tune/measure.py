"""Times a model's prefill and decode with given settings, and the machine's limits."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from .. import kernels
from ..context import Context, Entry
from ..errors import InvalidArgumentError, ModelLoadError
from ..handle import Closing
from ..model import Model, ModelInfo
from ..sampling import Sampler, SamplingParams
from .plan import Figures, Settings

_LONGEST_RUN = 640
"""KV cells of every context, so that all of them compute with the same shapes."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The machine's limits per second: bytes read, and 8-bit multiply-adds by kernel."""

    memory: float
    integer: dict[str, float]


def bounds(n_threads: int, seconds: float) -> Bounds:
    """Measures for about `seconds` for each kernel that runs here, and once for the memory."""
    return Bounds(
        kernels.memory_bandwidth(n_threads=n_threads, seconds=seconds),
        {
            name: kernels.integer_peak(name, n_threads=n_threads, seconds=seconds)
            for name in kernels.usable()
        },
    )


class Bench(Closing):
    """A model and its contexts, kept between runs: loading a model, and the first use of memory,
    take longer than what is timed.

    `on_load` is called with fractions from 0 to 1 while a model is loaded; an exception from it
    ends the load.
    """

    def __init__(
        self, path: str | os.PathLike[str], n_threads: int, on_load: Callable[[float], None]
    ) -> None:
        self._path = path
        self._n_threads = n_threads
        self._on_load = on_load
        self._kernel = ""
        self._model: Model | None = None
        self._contexts: dict[Settings, Context] = {}
        self._random = random.Random(0)

    def load(self, kernel: str) -> None:
        """Loads the weights in the kernel's layout. One copy at a time is in memory.

        Raises NativeError; ModelLoadError also for a model that cannot generate.
        """
        if self._model is not None and self._kernel == kernel:
            return
        self.close()
        self._model = Model(
            self._path, kernel=kernel, n_threads=self._n_threads, progress=self._on_load
        )
        self._kernel = kernel
        if not _generates(self._model.info):
            raise ModelLoadError(f"{self._model.path} is not a plain decoder model")

    def run(self, settings: Settings, prompt: int, answer: int) -> Figures:
        """Computes a prompt in chunks, then an answer token by token.

        Raises NativeError; InvalidArgumentError if both together exceed the cells of a context.
        """
        prompt = max(prompt, settings.chunk)
        if prompt + answer > _LONGEST_RUN:
            raise InvalidArgumentError(
                f"a run of {prompt} and {answer} tokens is longer than {_LONGEST_RUN}"
            )
        self.load(settings.kernel)
        model = self._model
        assert model is not None
        context = self._context(model, settings)
        n_vocab = model.info.n_vocab
        tokens = [self._random.randrange(n_vocab) for _ in range(prompt)]
        with Sampler(n_vocab, SamplingParams(temperature=0.0)) as sampler:
            context.clear()
            prefill_s, token = _prefill(context, tokens, settings.chunk, sampler)
            step_s = []
            for _ in range(answer):
                began = time.perf_counter()
                token = _step(context, [token], sampler)
                step_s.append(time.perf_counter() - began)
        return Figures(prompt / prefill_s, 1 / median(step_s) if step_s else None)

    @property
    def n_bytes(self) -> int:
        """The size of the weights; 0 before anything was loaded."""
        return 0 if self._model is None else self._model.info.n_bytes

    def rest(self) -> None:
        """Frees the contexts."""
        for context in self._contexts.values():
            context.close()
        self._contexts.clear()

    def close(self) -> None:
        self.rest()
        if self._model is not None:
            self._model.close()
            self._model = None

    def _context(self, model: Model, settings: Settings) -> Context:
        if settings not in self._contexts:
            self._contexts[settings] = Context(
                model,
                n_ctx=_LONGEST_RUN,
                n_batch=settings.chunk,
                n_ubatch=settings.chunk,
                n_outputs_max=1,
                n_threads=settings.threads or self._n_threads,
                kv_type=settings.kv_type,
            )
        return self._contexts[settings]


def _generates(info: ModelInfo) -> bool:
    return info.has_decoder and not info.is_recurrent


def _prefill(
    context: Context, tokens: list[int], chunk: int, sampler: Sampler
) -> tuple[float, int]:
    """Returns the seconds that a prompt takes, and the token after it."""
    began = time.perf_counter()
    token = 0
    for first in range(0, len(tokens), chunk):
        last = first + chunk >= len(tokens)
        part = tokens[first : first + chunk]
        if last:
            token = _step(context, part, sampler)
        else:
            context.step([Entry(0, part)])
    return time.perf_counter() - began, token


def _step(context: Context, tokens: list[int], sampler: Sampler) -> int:
    [sampled] = context.step([Entry(0, tokens, sampler=sampler)])
    assert sampled is not None
    return sampled.tokens[0]
