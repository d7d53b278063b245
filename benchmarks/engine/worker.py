"""One contestant of `benchmarks.engine`: a process that takes orders and times itself, and its
parent's handle on it. Knows nothing of who else is measured."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.common.child import Child, answer_orders
from benchmarks.common.report import BenchmarkError
from sheily_native import Context, Entry, Model, Sampler, SamplingParams, kernels

WORKER = (sys.executable, "-m", "benchmarks.engine.worker")
WARM_UP_TOKENS = 2
STEP_PROMPT = 16
BATCH = 512
ORDINARY_TOKENS = 120_000
"""Llama 3's control tokens are above; smaller vocabularies are used up to their half."""


class Setup(msgspec.Struct, frozen=True, tag=True):
    """What to load. `kernel` and `use_mmap` are those of `sheily_native.Model`."""

    model: str
    threads: int
    kernel: str = "auto"
    use_mmap: bool = True
    n_ctx: int = 4096
    n_seq_max: int = 8


class Prefill(msgspec.Struct, frozen=True, tag=True):
    """Asks for a prompt of `n_tokens` in an empty cache, and the first token behind it."""

    n_tokens: int


class Decode(msgspec.Struct, frozen=True, tag=True):
    """Asks for `n_tokens` single steps behind `depth` tokens that are in the cache."""

    n_tokens: int
    depth: int = 0


class Steps(msgspec.Struct, frozen=True, tag=True):
    """Asks for pairs of steps: one sequence, then `n_sequences` of them."""

    n_sequences: int
    n_pairs: int


class Bandwidth(msgspec.Struct, frozen=True, tag=True):
    """Asks for the bytes a second that can be read from memory. Needs no model."""

    threads: int
    seconds: float
    n_bytes: int


class Peak(msgspec.Struct, frozen=True, tag=True):
    """Asks for the multiply-adds a second of a kernel's instructions. Needs no model."""

    kernel: str
    threads: int
    seconds: float


class Reply(msgspec.Struct, frozen=True):
    """What the order asked for, or why it failed.

    `seconds` answers Setup, Prefill and Decode; `one_s` and `many_s` (of a step) answer Steps;
    `rate` (a second) Bandwidth and Peak. What is below belongs to Setup.
    """

    seconds: float = 0.0
    one_s: float = 0.0
    many_s: float = 0.0
    rate: float = 0.0
    error: str = ""

    kernel: str | None = None
    kv_bytes: int = 0
    kv_bytes_a_token: float = 0.0
    version: str = ""


Order = Setup | Prefill | Decode | Steps | Bandwidth | Peak


class Engine:
    """A model with a context, and a stopwatch."""

    def __init__(self, setup: Setup) -> None:
        kernels.names()  # the library is loaded before the clock starts
        began = time.perf_counter()
        self._model = Model(
            setup.model, kernel=setup.kernel, use_mmap=setup.use_mmap, n_threads=setup.threads
        )
        load_s = time.perf_counter() - began
        self._context = Context(
            self._model,
            n_ctx=setup.n_ctx,
            n_seq_max=setup.n_seq_max,
            n_batch=BATCH,
            n_ubatch=BATCH,
            n_threads=setup.threads,
        )
        self._sampler = Sampler(self._model.info.n_vocab, SamplingParams(temperature=0.0))
        self._warm_prefill = False
        self.loaded = Reply(
            seconds=load_s,
            kernel=self._model.info.kernel,
            kv_bytes=self._context.kv_bytes,
            kv_bytes_a_token=self._context.kv_bytes / self._context.n_ctx,
        )

    def prefill(self, order: Prefill) -> Reply:
        if not self._warm_prefill:
            self._prompt(order.n_tokens)
            self._warm_prefill = True
        began = time.perf_counter()
        self._prompt(order.n_tokens)
        return Reply(seconds=time.perf_counter() - began)

    def decode(self, order: Decode) -> Reply:
        self._prompt(order.depth)
        for token in self._tokens(WARM_UP_TOKENS):
            self._step([[token]])
        self._context.truncate(0, order.depth)
        tokens = self._tokens(order.n_tokens)
        began = time.perf_counter()
        for token in tokens:
            self._step([[token]])
        return Reply(seconds=time.perf_counter() - began)

    def steps(self, order: Steps) -> Reply:
        """One and many take turns in the same cache, so that both see the same noise."""
        self._context.clear()
        prompt = self._tokens(STEP_PROMPT)
        for i in range(order.n_sequences):
            self._context.step([Entry(i, prompt)])
        counts = (1, order.n_sequences)
        for count in counts:  # warms up
            self._step([[0]] * count)
        taken: dict[int, list[float]] = {count: [] for count in counts}
        for token in self._tokens(order.n_pairs):
            for count in counts:
                began = time.perf_counter()
                self._step([[token]] * count)
                taken[count].append(time.perf_counter() - began)
        one, many = (median(taken[count]) for count in counts)
        return Reply(one_s=one, many_s=many)

    def _step(self, sequences: Sequence[list[int]]) -> None:
        self._context.step(
            [Entry(i, tokens, sampler=self._sampler) for i, tokens in enumerate(sequences)]
        )

    def _prompt(self, n_tokens: int) -> None:
        self._context.clear()
        tokens = self._tokens(n_tokens)
        for first in range(0, n_tokens, BATCH):
            part = tokens[first : first + BATCH]
            last = first + BATCH >= n_tokens
            self._context.step([Entry(0, part, sampler=self._sampler if last else None)])

    def _tokens(self, n: int) -> list[int]:
        """Ids that mean nothing: what a step costs does not depend on them."""
        limit = min(ORDINARY_TOKENS, self._model.info.n_vocab // 2)
        return [7919 * (i + 1) % limit for i in range(n)]


class Worker(Child[Reply]):
    """The parent's handle on a contestant.

    `command` is the process to start; one that is not this module speaks the same lines.
    """

    def __init__(self, name: str, command: Sequence[str] = WORKER) -> None:
        super().__init__(name, command, Reply)


class _Obeying:
    """The child's part: the engine, once there is an order for one."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def __call__(self, order: Order) -> Reply:
        if isinstance(order, Bandwidth):
            rate = kernels.memory_bandwidth(
                n_threads=order.threads, n_bytes=order.n_bytes, seconds=order.seconds
            )
            return Reply(rate=rate)
        if isinstance(order, Peak):
            return Reply(
                rate=kernels.integer_peak(
                    order.kernel, n_threads=order.threads, seconds=order.seconds
                )
            )
        if isinstance(order, Setup):
            self._engine = Engine(order)
            return self._engine.loaded
        if self._engine is None:
            raise BenchmarkError("there is no model yet: the first order is a Setup")
        if isinstance(order, Prefill):
            return self._engine.prefill(order)
        if isinstance(order, Decode):
            return self._engine.decode(order)
        return self._engine.steps(order)


if __name__ == "__main__":
    answer_orders(Order, _Obeying(), lambda problem: Reply(error=problem))
