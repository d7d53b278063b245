"""Decoding in a bare loop on `sheily_native`: a process of its own, which takes its orders as JSON
lines, and its parent's handle on it. The server's prompts are borrowed, nothing else of it."""

from __future__ import annotations

import datetime
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from benchmarks.common.prompt_ids import prompt_ids
from benchmarks.common.report import BenchmarkError, Stream, UnusableRoundError
from benchmarks.common.words import WORDS
from sheily_native import Context, Entry, Model, Sampler, SamplingParams
from sheily_server.engine.kvcache.prefix_tree import common_prefix
from sheily_server.engine.runner import CHUNK
from sheily_server.engine.text import TextStream
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.templates.base import Message
from sheily_server.templates.registry import recognize, render

ROOT = Path(__file__).resolve().parents[2]
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
        date = datetime.date.today()
        segments = render(self._dialect, [Message("user", message)], date=date)
        return prompt_ids(self._tokenizer, segments)

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


class BareLoop:
    """The parent's handle: starts the process, gives orders, ends it with the `with` block."""

    def __init__(self, setup: Setup) -> None:
        """Raises BenchmarkError when the model cannot be loaded."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serve.bare_loop"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._replies = msgspec.json.Decoder(Reply)
        try:
            self._order(setup)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> dict[str, int]:
        return {"bare loop": self._process.pid}

    def write_prompt(self, seed: int, n_tokens: int) -> str:
        return self._order(WritePrompt(seed, n_tokens)).prompt

    def run(self, messages: Sequence[str], n_tokens: int) -> list[Stream]:
        """Raises UnusableRoundError when one of the answers is of no use."""
        return self._order(Run(list(messages), n_tokens)).streams

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> BareLoop:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _order(self, order: Order) -> Reply:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise BenchmarkError("the bare loop's process died")
        reply = self._replies.decode(line)
        if reply.error:
            raise BenchmarkError(f"the bare loop failed: {reply.error}")
        if reply.unusable:
            raise UnusableRoundError(reply.unusable)
        return reply


def main() -> None:
    """The child: one reply for each order, until its stdin is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on the terminal is for the parent
    orders = msgspec.json.Decoder(Order)
    loop: Loop | None = None
    for line in sys.stdin.buffer:
        order = orders.decode(line)
        try:
            if isinstance(order, Setup):
                loop, reply = Loop(order), Reply()
            elif loop is None:
                raise BenchmarkError("there is no model yet: the first order is a Setup")
            elif isinstance(order, Run):
                reply = Reply(streams=loop.run(order))
            else:
                reply = Reply(prompt=loop.write_prompt(order))
        except UnusableRoundError as problem:
            reply = Reply(unusable=str(problem))
        except Exception as problem:
            reply = Reply(error=f"{type(problem).__name__}: {problem}")
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
