"""Python's part of an engine step: `python -m benchmarks.micro.step_python --model FILE`.

The engine's own loop on a real model, with several answers at once. Of each step the time inside
the one C call is taken from the whole; what is left is Python: scheduling, building the call, text,
messages.
"""

from __future__ import annotations

import argparse
import math
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.common.arguments import at_least
from benchmarks.micro.engine_loop import EnoughError, run_engine
from sheily_native import Model, NativeError, context
from sheily_server.engine.admission import Job
from sheily_server.engine.runner import Runner
from sheily_server.engine.scheduling.scheduler import Plan, Scheduler
from sheily_server.engine.scheduling.sequence import TokenSequence
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.protocol.commands import Sampling, Segment, Submit
from sheily_server.version import ShowVersion

PROMPT_TOKENS = 16
CONTEXT_SIZE = 1024


class Figures(msgspec.Struct, frozen=True):
    """Medians over the steps, in milliseconds; `part` is Python's of the whole."""

    model: str
    sequences: int
    steps: int
    step_ms: float
    python_ms: float
    part: float


class _TimedRunner(Runner):
    """Notes when each step of all sequences began and how long its C call took."""

    def __init__(self, model: Model, n_sequences: int, n_steps: int, events: socket.socket) -> None:
        super().__init__(
            model,
            Tokenizer(model),
            n_slots=n_sequences,
            n_cells=n_sequences * CONTEXT_SIZE,
            n_threads=0,
        )
        self._n_sequences = n_sequences
        self._n_steps = n_steps
        self._received = events
        self._received.setblocking(False)
        self._began = 0.0
        self.native_s = 0.0
        self.steps: list[tuple[float, float]] = []
        """Seconds of a step, from the beginning of its call to that of the next, and in C."""

    def step(self, plan: Plan) -> Any:
        now = time.perf_counter()
        if self._began:
            self._received.recv(1 << 20)
            self.steps.append((now - self._began, self.native_s))
            if len(self.steps) == self._n_steps:
                raise EnoughError
        full = sum(bool(work.sequence.generated) for work in plan.work) == self._n_sequences
        self._began = time.perf_counter() if full else 0.0
        self.native_s = 0.0
        return super().step(plan)


class _TimedLibrary:
    """The native library, whose step call is timed."""

    def __init__(self, library: Any, runner: _TimedRunner) -> None:
        self._library = library
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def sn_context_step(self, *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._library.sn_context_step(*arguments)
        finally:
            self._runner.native_s += time.perf_counter() - began


@contextmanager
def _timed(runner: _TimedRunner) -> Iterator[None]:
    names = vars(context)
    original = names["library"]
    ffi, library = original()
    timed = _TimedLibrary(library, runner)
    names["library"] = lambda: (ffi, timed)
    try:
        yield
    finally:
        names["library"] = original


def measure(path: Path, n_sequences: int, n_steps: int) -> Figures:
    """Raises NativeError."""
    with Model(path) as model, ExitStack() as stack:
        ours, theirs = map(stack.enter_context, socket.socketpair())
        runner = _TimedRunner(model, n_sequences, n_steps, ours)
        scheduler = Scheduler(
            n_slots=n_sequences, context_size=CONTEXT_SIZE, n_sequences=runner.n_sequences
        )
        jobs = [_job(i, model.info.n_vocab) for i in range(n_sequences)]
        with _timed(runner):
            run_engine(theirs, Tokenizer(model), runner, scheduler, jobs)
    step = median(whole for whole, _ in runner.steps)
    python = median(whole - native for whole, native in runner.steps)
    return Figures(
        path.name, n_sequences, len(runner.steps), 1e3 * step, 1e3 * python, python / step
    )


def _job(id: int, n_vocab: int) -> Job:
    """An answer without an end, drawn at temperature 1."""
    n_tokens = CONTEXT_SIZE - PROMPT_TOKENS
    prompt = [(7919 * (id + 1) * (i + 1)) % (n_vocab // 2) for i in range(PROMPT_TOKENS)]
    sampling = Sampling(temperature=1.0, seed=id, ignore_eos=True)
    submit = Submit(
        id=id,
        segments=[Segment("\n", False)],
        sampling=sampling,
        max_tokens=n_tokens,
        stop=[],
        deadline=math.inf,
    )
    return Job(submit=submit, sequences=[TokenSequence(0, prompt, n_tokens)], prediction=())


def main(arguments: list[str] | None = None) -> int:
    """The exit status is 1 when nothing could be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro.step_python",
        description="How much of an engine step is Python, with several answers at once.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="a GGUF file")
    parser.add_argument("--sequences", type=at_least(1), default=8, help="answers at once (8)")
    parser.add_argument("--steps", type=at_least(1), default=60, help="steps measured (60)")
    options = parser.parse_args(arguments)
    try:
        figures = measure(options.model, options.sequences, options.steps)
    except (NativeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{figures.model}, {figures.sequences} answers at once, medians of {figures.steps} steps: "
        f"a step {figures.step_ms:.1f} ms, of it Python {figures.python_ms:.2f} ms, "
        f"{100 * figures.part:.2f} %"
    )
    print()
    print(msgspec.json.encode(figures).decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
