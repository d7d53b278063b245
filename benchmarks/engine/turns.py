"""The turns of `benchmarks.engine`: a contestant at work on one model file, between two measures of
the machine's bounds. Knows nothing of rounds, peers' builds or what is asked."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.common.usage import cpu_s, machine_cpu_s, memory
from benchmarks.engine import peers
from benchmarks.engine.report import Figure, Steps, Turn
from benchmarks.engine.token_cost import TokenCost
from benchmarks.engine.worker import (
    STEP_PROMPT,
    Bandwidth,
    Decode,
    Peak,
    Prefill,
    Reply,
    Setup,
    Worker,
)
from benchmarks.engine.worker import Steps as StepsOrder

LEAST_N_CTX = 4096
"""The server's default for one conversation."""
STEADY_TRIES = 3
QUIET_TRIES = 2
_PAGE_IN_BYTES = 1 << 24


class Meter:
    """What the machine can do at most, measured by a process of its own; keeps what it measured."""

    def __init__(self, worker: Worker, threads: int, seconds: float, n_bytes: int) -> None:
        self._worker = worker
        self._threads = threads
        self._seconds = seconds
        self._n_bytes = n_bytes
        self.memory_rates: list[float] = []
        self.peaks: dict[str, list[float]] = {}

    @property
    def pid(self) -> int:
        return self._worker.pid

    def memory(self) -> float:
        """Bytes a second."""
        rate = self._worker.order(Bandwidth(self._threads, self._seconds, self._n_bytes)).rate
        self.memory_rates.append(rate)
        return rate

    def peak(self, kernel: str) -> float:
        """Multiply-adds a second."""
        rate = self._worker.order(Peak(kernel, self._threads, self._seconds)).rate
        self.peaks.setdefault(kernel, []).append(rate)
        return rate


@dataclass(frozen=True, slots=True)
class Work:
    """What each contestant does: tokens of a prompt, tokens decoded behind none and behind
    `long_depth` (0: not measured), sequences of a wide step (0: not measured)."""

    model: Path
    cost: TokenCost
    kv_bytes_a_token: float
    threads: int
    prefill: int
    decode: int
    long_depth: int = 0
    sequences: int = 0

    @property
    def n_ctx(self) -> int:
        wide = self.sequences * (STEP_PROMPT + self.decode)
        return max(LEAST_N_CTX, self.prefill, self.long_depth + self.decode, wide)

    def bytes_a_token(self, depth: int) -> float:
        """Read from memory for a token, on average of a decode behind `depth` tokens."""
        return self.cost.weight_bytes + self.kv_bytes_a_token * (depth + self.decode / 2)


class Turns:
    """Runs one contestant at a time on one piece of work."""

    def __init__(self, work: Work, meter: Meter, noise: float) -> None:
        """`noise`: a turn in which other programs used more than that many cores is repeated."""
        self._work = work
        self._meter = meter
        self._noise = noise

    def own(self, name: str, kernel: str, peak: str | None, use_mmap: bool = True) -> Turn:
        """Our library with a kernel, or "off". `peak` is the kernel whose peak is the bound."""
        return self._quiet(lambda: self._own(name, kernel, peak, use_mmap))

    def llama_bench(self, program: Path, peak: str | None) -> Turn:
        return self._quiet(lambda: self._llama_bench(program, peak))

    def openvino(self, python: Path, peak: str | None) -> tuple[Turn, str]:
        """The turn, and the version."""
        versions: list[str] = []

        def run() -> Turn:
            command = (str(python), str(peers.OPENVINO_PEER))
            with Worker("OpenVINO GenAI", command) as worker:
                loaded = worker.order(Setup(str(self._work.model), self._work.threads))
                versions.append(loaded.version)
                return self._contest(worker, loaded, peak)

        return self._quiet(run), versions[-1]

    def _own(self, name: str, kernel: str, peak: str | None, use_mmap: bool) -> Turn:
        work = self._work
        page_in(work.model)
        with Worker(name) as worker:
            sequences = max(work.sequences, 1)
            loaded = worker.order(
                Setup(str(work.model), work.threads, kernel, use_mmap, work.n_ctx, sequences)
            )
            turn = self._contest(worker, loaded, peak)
            floor = work.model.stat().st_size + loaded.kv_bytes
            return msgspec.structs.replace(turn, resident_floor=floor)

    def _contest(self, worker: Worker, loaded: Reply, peak: str | None) -> Turn:
        work = self._work
        ours = loaded.kv_bytes > 0

        def decode(depth: int) -> Figure:
            order = Decode(work.decode, depth)
            return between(
                self._memory_bound(depth), lambda: work.decode / worker.order(order).seconds
            )

        first = decode(0)
        steps = None
        if work.sequences and ours:
            reply = worker.order(StepsOrder(work.sequences, work.decode // 2 or 1))
            steps = Steps(work.sequences, reply.one_s, reply.many_s)
        prefill = between(
            self._integer_bound(peak),
            lambda: work.prefill / worker.order(Prefill(work.prefill)).seconds,
        )
        return Turn(
            others_cpu=0.0,
            decode=first,
            prefill=prefill,
            long_decode=decode(work.long_depth) if work.long_depth else None,
            steps=steps,
            load_s=loaded.seconds,
            memory=memory(worker.pid),
        )

    def _llama_bench(self, program: Path, peak: str | None) -> Turn:
        """Prompt first, so that its decode is next to that of the contestant that follows."""
        work = self._work

        def run(**tokens: int) -> float:
            return peers.llama_bench(program, work.model, work.threads, **tokens)

        def decode(depth: int) -> Figure:
            return between(
                self._memory_bound(depth), lambda: run(decode=work.decode, depth=depth), 1
            )

        long = decode(work.long_depth) if work.long_depth else None
        prefill = between(self._integer_bound(peak), lambda: run(prefill=work.prefill), 1)
        return Turn(others_cpu=0.0, prefill=prefill, long_decode=long, decode=decode(0))

    def _memory_bound(self, depth: int) -> Callable[[], float | None]:
        return lambda: self._meter.memory() / self._work.bytes_a_token(depth)

    def _integer_bound(self, kernel: str | None) -> Callable[[], float | None]:
        if kernel is None:
            return lambda: None
        return lambda: self._meter.peak(kernel) / self._work.cost.multiply_adds

    def _quiet(self, run: Callable[[], Turn]) -> Turn:
        """The first of `QUIET_TRIES` turns that was not disturbed, or the last of them."""
        for tries_left in reversed(range(QUIET_TRIES)):
            began, others = time.monotonic(), self._others_cpu_s()
            turn = run()
            share = (self._others_cpu_s() - others) / (time.monotonic() - began)
            if share <= self._noise or not tries_left:
                break
        return msgspec.structs.replace(turn, others_cpu=max(share, 0.0))

    def _others_cpu_s(self) -> float:
        """CPU seconds of all but this process, the meter, and contestants that have ended."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = time.process_time() + cpu_s(self._meter.pid) + ended.ru_utime + ended.ru_stime
        return machine_cpu_s() - ours


def between(
    bound: Callable[[], float | None], rate: Callable[[], float], tries: int = STEADY_TRIES
) -> Figure:
    """Measures again, at most `tries` times in all, while the bounds on both sides differ."""
    before = bound()
    while True:
        tries -= 1
        measured, after = rate(), bound()
        figure = Figure(measured, [one for one in (before, after) if one is not None])
        if figure.steady or tries < 1:
            return figure
        before = after


def page_in(path: Path) -> None:
    """Reads the file, so that it is in the page cache as far as memory allows."""
    buffer = bytearray(_PAGE_IN_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
