"""What HTTP and the scheduler cost: the server against decoding in a bare loop on `sheily_native`.

Both have the same model, threads and KV cache, and answer the same prompts greedily, in turn, so
that a noisy machine is noisy for both. With `--against` it is the server beside other servers
instead, and with `--scenarios` the server alone in the same scenarios.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

import msgspec
from tqdm import tqdm

from benchmarks.common.arguments import above, absolute_path, at_least
from benchmarks.common.machine import this_machine
from benchmarks.common.models import SCRATCH, shape_file
from benchmarks.common.report import BenchmarkError
from benchmarks.common.usage import cpu_s, machine_cpu_s, memory
from benchmarks.micro.engine_loop import engine_python_s
from benchmarks.serve import against
from benchmarks.serve import table as table_of_servers
from benchmarks.serve.bare_loop import BareLoop, Setup
from benchmarks.serve.contestants import Load, Server, ours
from benchmarks.serve.loop_report import (
    Report,
    Round,
    Scenario,
    Stream,
    Turn,
    UnusableRoundError,
    side,
    table,
)
from benchmarks.serve.over_http import OverHttp
from benchmarks.serve.report import SCENARIOS
from sheily_native import NativeError
from sheily_native._threads import default_threads
from sheily_server.version import ShowVersion
from tools.make_gguf import SHAPES

SETTLE_S = 0.3
WARM_UP_TOKENS = 4
MAX_DISCARDED = 10
LEAST_PARALLEL = 4
ROUNDS, ROUNDS_AGAINST = 5, 2


class Runnable(Protocol):
    """A side of the comparison."""

    @property
    def pids(self) -> dict[str, int]: ...

    def run(self, messages: Sequence[str], n_tokens: int) -> list[Stream]: ...


class Comparison:
    """The two sides, and the prompts they are given: each is used once."""

    def __init__(self, bare: BareLoop, server: OverHttp, prompt_tokens: int, noise: float) -> None:
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
        if one.ratio <= 0:  # it raises itself where streams did not overlap
            raise UnusableRoundError("the server made no tokens")
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
        report, text = _measure_servers(options) if _servers(options) else _measure(options)
        line = msgspec.json.encode(report).decode()
        if options.json is not None:
            options.json.write_text(line + "\n")
    except (BenchmarkError, NativeError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(text)
    print()
    print(line)
    return 0


def _servers(options: argparse.Namespace) -> bool:
    """Whether the server is to be measured in scenarios, and not against the bare loop."""
    return bool(options.against or options.scenarios)


def _measure_servers(options: argparse.Namespace) -> tuple[msgspec.Struct, str]:
    if options.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise BenchmarkError("--plot needs matplotlib: pip install -e '.[bench]'")
    model: Path = options.model or shape_file(options.shape)
    wanted = against.Options(
        model=model.absolute(),
        threads=options.threads or default_threads(),
        context_size=options.context_size,
        rounds=options.rounds or ROUNDS_AGAINST,
        tokens=options.tokens,
        long_answer=options.long_answer,
        prompt_tokens=options.prompt_tokens,
        minutes=options.minutes,
        load=options.load,
        rate=options.rate,
        seed=options.seed,
        against=options.against or (),
        scenarios=options.scenarios or (),
        scratch=options.scratch,
        llama_server=options.llama_server,
        llama_cpp_python=options.llama_cpp_python,
    )
    report = against.measure(wanted, this_machine())
    if options.plot is not None:
        from benchmarks.serve.plot import draw

        draw(report, options.plot)
    return report, table_of_servers.table(report)


def _measure(options: argparse.Namespace) -> tuple[msgspec.Struct, str]:
    if options.plot is not None:
        raise BenchmarkError("--plot draws servers side by side: it needs --against or --scenarios")
    model: Path = options.model or shape_file(options.shape)
    context_size: int = options.context_size
    parallel = max(LEAST_PARALLEL, *options.clients)
    setup = Setup(os.path.abspath(model), context_size, parallel, options.threads)
    load = Load(model, context_size, parallel, options.threads)
    with (
        Server(ours(load, max_tokens=options.tokens)) as server,
        BareLoop(setup) as bare,
    ):
        http = OverHttp(server)
        comparison = Comparison(bare, http, options.prompt_tokens, options.noise)
        scenarios = [
            comparison.scenario(clients, options.tokens, options.rounds or ROUNDS)
            for clients in options.clients
        ]
        pids = {**http.pids, **bare.pids}
        memories = {name: memory(pid) for name, pid in pids.items()}
    report = Report(
        model=model.name,
        model_bytes=model.stat().st_size,
        threads=options.threads or default_threads(),
        context_size=context_size,
        parallel=parallel,
        machine=this_machine(),
        scenarios=scenarios,
        memory=memories,
    )
    return report, table(report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve",
        description="Compare tokens/s over HTTP with decoding in a bare loop on sheily_native, "
        "or the server with other servers.",
    )
    parser.add_argument("--version", action=ShowVersion)
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--shape",
        choices=tuple(SHAPES),
        default="3b",
        help="Llama 3.2's shape with random weights, made in build/bench-models (default: 3b)",
    )
    model.add_argument("--model", type=Path, metavar="FILE", help="a GGUF file instead")
    whole = at_least(1)
    add = parser.add_argument
    add("--tokens", type=at_least(2), default=32, help="tokens an answer (32)")
    add("--rounds", type=whole, help=f"rounds of all sides ({ROUNDS}; {ROUNDS_AGAINST} of servers)")
    add("--prompt-tokens", type=whole, default=64, help="tokens a short prompt (64)")
    add("--context-size", type=whole, default=4096, help="of a stream (4096)")
    add("--threads", type=at_least(0), default=0, help="0: all CPUs (default)")
    add("--json", type=Path, metavar="FILE", help="write the JSON line there too")
    _add_bare_loop(parser.add_argument_group("against a bare loop, which is the default"))
    _add_servers(parser.add_argument_group("against other servers, or alone in their scenarios"))
    return parser


def _add_bare_loop(group: argparse._ArgumentGroup) -> None:
    text = "streams at once (1 and 4)"
    group.add_argument("--clients", type=at_least(1), nargs="+", default=[1, 4], help=text)
    group.add_argument(
        "--noise",
        type=float,
        default=float("inf"),
        metavar="CORES",
        help="repeat a round in which other programs used more CPU than this (default: never)",
    )


def _add_servers(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    text = "a peer, which must be there then; may be repeated. all: those that can be had"
    names = (*against.PEERS, against.ALL)
    add("--against", choices=names, action="append", help=text)
    text = "these alone; without --against, of our server alone"
    add("--scenarios", choices=SCENARIOS, nargs="+", metavar="NAME", help=f"{text}: %(choices)s")
    text = "tokens of the answers in copy-heavy, prediction and no-repetition (128)"
    add("--long-answer", type=at_least(2), default=128, metavar="N", help=text)
    add("--minutes", type=above(0), default=3.0, help="arrivals of the mixed scenario (3)")
    text = "answers' tokens that the mixed scenario asks for, as a part of our single speed (0.5)"
    add("--load", type=above(0), default=0.5, metavar="PART", help=text)
    add("--rate", type=above(0), metavar="N", help="instead of --load: arrivals a second")
    add("--seed", type=at_least(0), default=1, help="of texts and arrivals (1)")
    text = "where peers are built and kept (build/peers)"
    add("--scratch", type=absolute_path, default=SCRATCH, metavar="DIR", help=text)
    add("--llama-server", type=absolute_path, metavar="FILE", help="a program, not one built here")
    text = "a Python that has llama-cpp-python[server]"
    add("--llama-cpp-python", type=absolute_path, metavar="FILE", help=text)
    add("--plot", type=absolute_path, metavar="FILE", help="draw the figures: .png or .svg")


if __name__ == "__main__":
    raise SystemExit(main())
