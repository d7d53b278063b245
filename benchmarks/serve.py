"""What HTTP and the scheduler cost: the server against decoding in a bare loop on `sheily_native`.

Both have the same model, threads and KV cache, and answer the same prompts greedily, in turn, so
that a noisy machine is noisy for both.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

import msgspec
from tqdm import tqdm

from benchmarks.arguments import at_least
from benchmarks.bare_loop import ROOT, BareLoop, Setup
from benchmarks.report import (
    BenchmarkError,
    Machine,
    Report,
    Round,
    Scenario,
    Stream,
    Turn,
    UnusableRoundError,
    side,
    table,
)
from benchmarks.server_process import ServerProcess, cpu_s, engine_python_s, machine_cpu_s, memory
from benchmarks.shapes import SHAPES, write_shape
from sheily_native import BuildInfo, NativeError, build_info
from sheily_native._threads import default_threads

MODELS = ROOT / "build" / "bench-models"
SETTLE_S = 0.3
WARM_UP_TOKENS = 4
MAX_DISCARDED = 10
LEAST_PARALLEL = 4


class Runnable(Protocol):
    """A side of the comparison."""

    @property
    def pids(self) -> dict[str, int]: ...

    def run(self, messages: Sequence[str], n_tokens: int) -> list[Stream]: ...


class Comparison:
    """The two sides, and the prompts they are given: each is used once."""

    def __init__(
        self, bare: BareLoop, server: ServerProcess, prompt_tokens: int, noise: float
    ) -> None:
        """`noise`: rounds in which other programs used more than that many cores are not kept."""
        self._bare = bare
        self._server = server
        self._prompt_tokens = prompt_tokens
        self._noise = noise
        self._seed = 0

    def scenario(self, clients: int, n_tokens: int, n_rounds: int) -> Scenario:
        """Measures with `clients` streams at once. Raises BenchmarkError."""
        n_discarded = 0
        n_logged = 0
        rounds: list[Round] = []
        warm = False
        with tqdm(total=n_rounds, desc=f"clients: {clients}", disable=None, leave=False) as bar:
            while len(rounds) < n_rounds:
                try:
                    one = self._round(clients, n_tokens, http_first=len(rounds) % 2 == 1)
                except UnusableRoundError as problem:
                    n_discarded += 1
                    if n_discarded > MAX_DISCARDED:
                        raise BenchmarkError(
                            f"{n_discarded} rounds were of no use, the last one because {problem}"
                        ) from None
                    continue
                if warm:
                    rounds.append(one)
                    bar.update()
                else:
                    n_logged = len(self._server.logged_speeds)
                    warm = True
        ratios = [one.ratio for one in rounds]
        speeds = self._server.logged_speeds[n_logged:]
        return Scenario(
            clients=clients,
            rounds=n_rounds,
            tokens=n_tokens,
            ratio=median(ratios),
            ratio_min=min(ratios),
            ratio_max=max(ratios),
            ratios=ratios,
            bare=side([one.bare for one in rounds], [one.http.idle_cpu for one in rounds]),
            http=side([one.http for one in rounds], [one.bare.idle_cpu for one in rounds]),
            same_texts=sum(one.same_texts for one in rounds),
            discarded_rounds=n_discarded,
            others_cpu=max(turn.others_cpu for one in rounds for turn in (one.bare, one.http)),
            engine_log_tokens_per_s=median(speeds) if speeds else None,
            engine_python_us_per_step=1e6 * engine_python_s(clients),
        )

    def _round(self, clients: int, n_tokens: int, http_first: bool) -> Round:
        messages = [self._next_prompt() for _ in range(clients)]
        if http_first:
            http = _turn(self._server, self._bare, messages, n_tokens)
            bare = _turn(self._bare, self._server, messages, n_tokens)
        else:
            bare = _turn(self._bare, self._server, messages, n_tokens)
            http = _turn(self._server, self._bare, messages, n_tokens)
        one = Round(bare, http)
        assert one.ratio > 0  # or the property raises, here and not when all is done
        others = max(bare.others_cpu, http.others_cpu)
        if others > self._noise:
            raise UnusableRoundError(f"other programs used {others:.2f} cores")
        return one

    def _next_prompt(self) -> str:
        self._seed += 1
        return self._bare.write_prompt(self._seed, self._prompt_tokens)


def _turn(runs: Runnable, waits: Runnable, messages: Sequence[str], n_tokens: int) -> Turn:
    time.sleep(SETTLE_S)
    began, client, machine = time.monotonic(), time.process_time(), machine_cpu_s()
    before = {pid: cpu_s(pid) for one in (runs, waits) for pid in one.pids.values()}
    streams = runs.run(messages, n_tokens)
    used = {pid: cpu_s(pid) - start for pid, start in before.items()}
    seconds, client = time.monotonic() - began, time.process_time() - client
    others = machine_cpu_s() - machine - client - sum(used.values())
    cpu = {name: used[pid] for name, pid in runs.pids.items()}
    idle = sum(used[pid] for pid in waits.pids.values())
    return Turn(streams, {**cpu, "client": client}, idle / seconds, max(others / seconds, 0.0))


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m benchmarks.serve`; the exit status is 1 when nothing could be measured."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped too
    try:
        report = _measure(options)
    except (BenchmarkError, NativeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    line = msgspec.json.encode(report).decode()
    if options.json is not None:
        options.json.write_text(line + "\n")
    print(table(report))
    print()
    print(line)
    return 0


def _measure(options: argparse.Namespace) -> Report:
    model: Path = options.model or _shape_file(options.shape)
    info = build_info()
    context_size: int = options.context_size
    parallel = max(LEAST_PARALLEL, *options.clients)
    setup = Setup(os.path.abspath(model), context_size, parallel, options.threads)
    server = ServerProcess(
        model,
        context_size=context_size,
        max_tokens=options.tokens,
        parallel=parallel,
        threads=options.threads,
    )
    with server, BareLoop(setup) as bare:
        comparison = Comparison(bare, server, options.prompt_tokens, options.noise)
        scenarios = [
            comparison.scenario(clients, options.tokens, options.rounds)
            for clients in options.clients
        ]
        pids = {**server.pids, **bare.pids}
        memories = {name: memory(pid) for name, pid in pids.items()}
    return Report(
        model=model.name,
        model_bytes=model.stat().st_size,
        threads=options.threads or default_threads(),
        context_size=context_size,
        parallel=parallel,
        machine=Machine(
            cpu=info.cpu_model,
            cores=default_threads(),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            build=_build_line(info),
        ),
        scenarios=scenarios,
        memory=memories,
    )


def _shape_file(name: str) -> Path:
    """The model of that shape; made where it is missing, minutes and 3.4 GB for the 3B one."""
    path = MODELS / f"llama3-{name}.gguf"
    if not path.exists():
        MODELS.mkdir(parents=True, exist_ok=True)
        print(f"making {path}, once", file=sys.stderr)
        write_shape(name, path, progress=sys.stderr.isatty())
    return path


def _build_line(info: BuildInfo) -> str:
    on = " ".join(f"{name}={value}" for name, value in info.options.items())
    return (
        f"llama.cpp b{info.llama_cpp_build}, {info.compiler}, {info.build_type}, "
        f"{' '.join(info.flags)}; {on}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve",
        description="Compare tokens/s over HTTP with decoding in a bare loop on sheily_native.",
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--shape",
        choices=tuple(SHAPES),
        default="3b",
        help="Llama 3.2's shape with random weights, made in build/bench-models (default: 3b)",
    )
    model.add_argument("--model", type=Path, metavar="FILE", help="a GGUF file instead")
    whole = at_least(1)
    parser.add_argument("--tokens", type=at_least(2), default=32, help="tokens an answer (32)")
    parser.add_argument("--rounds", type=whole, default=5, help="rounds of both sides (5)")
    parser.add_argument(
        "--clients", type=whole, nargs="+", default=[1, 4], help="streams at once (1 and 4)"
    )
    parser.add_argument("--prompt-tokens", type=whole, default=64, help="tokens a prompt (64)")
    parser.add_argument("--context-size", type=whole, default=4096, help="of a stream (4096)")
    parser.add_argument("--threads", type=at_least(0), default=0, help="0: all CPUs (default)")
    parser.add_argument(
        "--noise",
        type=float,
        default=float("inf"),
        metavar="CORES",
        help="repeat a round in which other programs used more CPU than this (default: never)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON line there too")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
