"""Decoding in a bare loop on `sheily_native`: a process of its own, which takes orders, and its
parent's handle on it. The server's prompts are borrowed, nothing else of it."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence

import msgspec

from benchmarks.common.child import Child, answer_orders
from benchmarks.common.prompt_ids import user_prompt_ids
from benchmarks.common.report import BenchmarkError
from benchmarks.common.words import WORDS
from benchmarks.serve.loop_report import Stream, UnusableRoundError
from sheily_native import Context, Entry, Model, Sampler, SamplingParams
from sheily_server.engine.kvcache.prefix_tree import common_prefix
from sheily_server.engine.runner import CHUNK
from sheily_server.engine.text import TextStream
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.templates.registry import recognize

_REQUEST = "Write a long story with all of these words."


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first order: what to load. The geometry of the KV cache is that of the server."""

    model: str
    context_size: int
    parallel: int
    threads: int


class WritePrompt(msgspec.Struct, frozen=True, tag=True):
    """Asks for a user message whose whole prompt has about `n_tokens` tokens."""

    seed: int
    n_tokens: int


class Run(msgspec.Struct, frozen=True, tag=True):
    """Asks for `n_tokens` greedy tokens behind each user message, all in one batch."""

    messages: list[str]
    n_tokens: int


class Reply(msgspec.Struct, frozen=True):
    """`streams` for Run, `prompt` for WritePrompt; one of the other two when that failed."""

    streams: list[Stream] = []
    prompt: str = ""
    unusable: str = ""
    error: str = ""


Order = Setup | WritePrompt | Run


class Loop:
    """A model and the plainest way to decode a few sequences of it."""

    def __init__(self, setup: Setup) -> None:
        self._model = Model(setup.model)
        self._tokenizer = Tokenizer(self._model)
        self._dialect = recognize(self._model.metadata)
        self._context = Context(
            self._model,
            n_ctx=setup.parallel * setup.context_size,
            n_seq_max=setup.parallel,
            n_batch=CHUNK + setup.parallel,
            n_ubatch=CHUNK + setup.parallel,
            n_outputs_max=setup.parallel,
            n_threads=setup.threads or None,
        )
        self._held: list[list[int]] = [[] for _ in range(setup.parallel)]

    def write_prompt(self, order: WritePrompt) -> str:
        """The words come first, so that prompts have their system part alone in common."""
        choose = random.Random(order.seed)
        words = [choose.choice(WORDS)]
        while True:
            message = f"{' '.join(words)}. {_REQUEST}"
            missing = order.n_tokens - len(self._encode(message))
            if missing <= 0:
                return message
            words += choose.choices(WORDS, k=missing)

    def run(self, order: Run) -> list[Stream]:
        """Raises UnusableRoundError for an end token, or a first token that gives no text."""
        prompts = [self._encode(message) for message in order.messages]
        samplers = [
            Sampler(self._model.info.n_vocab, SamplingParams(temperature=0.0)) for _ in prompts
        ]
        sent = time.monotonic()
        cached, first, first_times = self._prefill(prompts, samplers)
        columns = [first]
        step_times: list[float] = []
        for _ in range(order.n_tokens - 1):
            entries = [
                Entry(i, [token], sampler=samplers[i]) for i, token in enumerate(columns[-1])
            ]
            results = self._context.step(entries)
            columns.append([result.tokens[0] for result in results if result is not None])
            step_times.append(time.monotonic())
        answers = [list(tokens) for tokens in zip(*columns, strict=True)]
        for i, (prompt, tokens) in enumerate(zip(prompts, answers, strict=True)):
            self._held[i] = prompt + tokens[:-1]
        return [
            self._stream(sent, [first_times[i], *step_times], tokens, len(prompts[i]), cached[i])
            for i, tokens in enumerate(answers)
        ]

    def _encode(self, message: str) -> list[int]:
        return user_prompt_ids(self._tokenizer, self._dialect, message)

    def _prefill(
        self, prompts: Sequence[list[int]], samplers: Sequence[Sampler]
    ) -> tuple[list[int], list[int], list[float]]:
        """For each sequence: tokens that were in the cache already, first token, and its time."""
        cached = [
            min(common_prefix(self._held[i], prompt), len(prompt) - 1)
            for i, prompt in enumerate(prompts)
        ]
        for i, length in enumerate(cached):
            self._context.truncate(i, length)
        computed, first, times = list(cached), [0] * len(prompts), [0.0] * len(prompts)
        while any(n < len(prompt) for n, prompt in zip(computed, prompts, strict=True)):
            entries: list[Entry] = []
            room = CHUNK
            for i, prompt in enumerate(prompts):
                tokens = prompt[computed[i] : computed[i] + room]
                if tokens:
                    room -= len(tokens)
                    computed[i] += len(tokens)
                    sampler = samplers[i] if computed[i] == len(prompt) else None
                    entries.append(Entry(i, tokens, sampler=sampler))
            results = self._context.step(entries)
            now = time.monotonic()
            for entry, result in zip(entries, results, strict=True):
                if result is not None:
                    first[entry.sequence], times[entry.sequence] = result.tokens[0], now
        return cached, first, times

    def _stream(
        self, sent: float, times: list[float], tokens: list[int], n_prompt: int, n_cached: int
    ) -> Stream:
        if any(self._tokenizer.is_end(token) for token in tokens):
            raise UnusableRoundError("the model ended an answer early")
        text = TextStream([])
        pieces = [text.push(self._tokenizer.piece(token)) for token in tokens]
        pieces[-1] += text.finish()
        if not pieces[0]:
            raise UnusableRoundError("an answer's first token gave no text")
        arrivals = [time for time, piece in zip(times, pieces, strict=True) if piece]
        arrivals[-1] = times[-1]
        return Stream(sent, arrivals, len(tokens), n_prompt, n_cached, "".join(pieces))


class BareLoop(Child[Reply]):
    """The parent's handle."""

    def __init__(self, setup: Setup) -> None:
        """Raises BenchmarkError when the model cannot be loaded."""
        command = (sys.executable, "-m", "benchmarks.serve.bare_loop")
        super().__init__("the bare loop", command, Reply)
        try:
            self.order(setup)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> dict[str, int]:
        return {"bare loop": self.pid}

    def write_prompt(self, seed: int, n_tokens: int) -> str:
        return self.order(WritePrompt(seed, n_tokens)).prompt

    def run(self, messages: Sequence[str], n_tokens: int) -> list[Stream]:
        """Raises UnusableRoundError when one of the answers is of no use."""
        reply = self.order(Run(list(messages), n_tokens))
        if reply.unusable:
            raise UnusableRoundError(reply.unusable)
        return reply.streams


class _Obeying:
    """The child's part: the loop, once there is a model."""

    def __init__(self) -> None:
        self._loop: Loop | None = None

    def __call__(self, order: Order) -> Reply:
        if isinstance(order, Setup):
            self._loop = Loop(order)
            return Reply()
        if self._loop is None:
            raise BenchmarkError("there is no model yet: the first order is a Setup")
        if isinstance(order, WritePrompt):
            return Reply(prompt=self._loop.write_prompt(order))
        try:
            return Reply(streams=self._loop.run(order))
        except UnusableRoundError as problem:
            return Reply(unusable=str(problem))


if __name__ == "__main__":
    answer_orders(Order, _Obeying(), lambda problem: Reply(error=problem))
