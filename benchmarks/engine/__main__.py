"""How fast the engine is: our kernels beside the stock ones, llama-bench, OpenVINO GenAI, and what
memory and arithmetic of this machine allow.

Contestants take turns, each in a process of its own, and each figure stands between two measures of
its bound, so that a machine whose speed changes is the same for all of a round.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from tqdm import tqdm

from benchmarks.common.arguments import absolute_path, at_least
from benchmarks.common.machine import this_machine
from benchmarks.common.models import SCRATCH, shape_file
from benchmarks.common.report import BenchmarkError, spread
from benchmarks.engine import peers
from benchmarks.engine import report as figures
from benchmarks.engine.report import (
    LLAMA_BENCH,
    LLAMA_BENCH_AVX2,
    OPENVINO,
    OURS,
    OURS_AVX2,
    STOCK,
    Bounds,
    FormatRounds,
    Report,
    Round,
    Turn,
)
from benchmarks.engine.table import table
from benchmarks.engine.token_cost import token_cost
from benchmarks.engine.turns import Meter, Turns, Work
from benchmarks.engine.worker import Reply, Setup, Worker
from sheily_native import NativeError, kernels
from sheily_native._threads import default_threads
from sheily_server.version import ShowVersion

PEERS = (STOCK, LLAMA_BENCH, OPENVINO)
AVX2_KERNEL = "avx2"
FORMATS = ("Q4_K_M", "Q4_0", "Q6_K", "F16")
FORMATS_PREFILL = 128


@dataclass(frozen=True, slots=True)
class Contestants:
    """Who takes part: programs of peers, None for those who do not."""

    stock: bool
    llama_bench: Path | None
    openvino: Path | None
    avx2: bool
    llama_bench_avx2: Path | None

    @property
    def descriptions(self) -> dict[str, str]:
        """Where each peer is from."""
        programs = {LLAMA_BENCH: self.llama_bench, LLAMA_BENCH_AVX2: self.llama_bench_avx2}
        return {name: str(program) for name, program in programs.items() if program is not None}


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m benchmarks.engine`; the exit status is 1 when nothing could be measured."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are stopped too
    try:
        report = _measure(options)
        line = msgspec.json.encode(report).decode()
        if options.json is not None:
            options.json.write_text(line + "\n")
        if options.plot is not None:
            from benchmarks.engine.plot import draw

            draw(report, options.plot)
    except (BenchmarkError, NativeError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(report))
    print()
    print(line)
    return 0


def _measure(options: argparse.Namespace) -> Report:
    if options.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise BenchmarkError("--plot needs matplotlib: pip install -e '.[bench]'")
    if options.avx2 and AVX2_KERNEL not in kernels.usable():
        raise BenchmarkError(f"this CPU cannot run the kernel {AVX2_KERNEL}")
    threads = options.threads or default_threads()
    model: Path = options.model or shape_file("1b" if options.formats else "3b")
    loaded = _probe(model, threads)
    work = Work(
        model,
        token_cost(model),
        loaded.kv_bytes_a_token,
        threads,
        prefill=options.prefill,
        decode=options.decode,
        long_depth=options.long,
        sequences=options.sequences,
    )
    rounds: list[Round] = []
    formats: list[FormatRounds] = []
    descriptions: dict[str, str] = {}
    with Worker("the process that measures the bounds") as worker:
        meter = Meter(worker, threads, options.bound_seconds, options.bound_mib << 20)
        if options.formats:
            formats = _formats(options, work, meter)
        else:
            who = _contestants(options)
            descriptions = who.descriptions
            peak = loaded.kernel or next(iter(kernels.usable()), None)
            turns = Turns(work, meter, options.noise)
            rounds = _rounds(turns, who, peak, options.rounds, descriptions)
    all_rounds = [*rounds, *(round_ for one in formats for round_ in one.rounds)]
    return Report(
        model=model.name,
        model_bytes=model.stat().st_size,
        threads=threads,
        prefill_tokens=options.prefill,
        decode_tokens=options.decode,
        long_tokens=options.long,
        n_sequences=options.sequences,
        n_rounds=options.rounds,
        machine=this_machine(),
        kernel=loaded.kernel,
        peers=descriptions,
        bounds=_bounds(meter, work),
        contestants=figures.summaries(rounds),
        comparisons=figures.comparisons(rounds),
        formats=[figures.format_summary(one) for one in formats],
        verdicts=figures.verdicts(rounds, formats),
        others_cpu=max(turn.others_cpu for round_ in all_rounds for turn in round_.values()),
        disturbed=sum(
            turn.others_cpu > options.noise for round_ in all_rounds for turn in round_.values()
        ),
        unsteady=figures.unsteady_figures(all_rounds),
        rounds=rounds,
    )


def _bounds(meter: Meter, work: Work) -> Bounds:
    memory = spread(meter.memory_rates)
    assert memory is not None
    integer = {kernel: spread(peaks) for kernel, peaks in meter.peaks.items()}
    return Bounds(
        memory=memory,
        integer={kernel: one for kernel, one in integer.items() if one is not None},
        bytes_a_token=round(work.bytes_a_token(0)),
        multiply_adds_a_token=work.cost.multiply_adds,
        prompt_multiply_adds_a_token=work.cost.prompt_multiply_adds(work.prefill) / work.prefill,
    )


def _probe(model: Path, threads: int) -> Reply:
    """What our library says of the model, before anything takes minutes. Raises BenchmarkError."""
    with Worker(OURS) as worker:
        return worker.order(Setup(os.path.abspath(model), threads))


def _rounds(
    turns: Turns,
    who: Contestants,
    peak: str | None,
    n_rounds: int,
    descriptions: dict[str, str],
) -> list[Round]:
    """The decodes that are compared stand next to each other in a round."""

    def openvino(python: Path) -> Turn:
        turn, descriptions[OPENVINO] = turns.openvino(python, peak)
        return turn

    order: list[tuple[str, Callable[[], Turn]]] = []
    if who.llama_bench is not None:
        order.append((LLAMA_BENCH, partial(turns.llama_bench, who.llama_bench, peak)))
    order.append((OURS, partial(turns.own, OURS, kernels.AUTO, peak)))
    if who.stock:
        order.append((STOCK, partial(turns.own, STOCK, kernels.OFF, peak, use_mmap=False)))
    if who.openvino is not None:
        order.append((OPENVINO, partial(openvino, who.openvino)))
    if who.llama_bench_avx2 is not None:
        run = partial(turns.llama_bench, who.llama_bench_avx2, AVX2_KERNEL)
        order.append((LLAMA_BENCH_AVX2, run))
    if who.avx2:
        order.append((OURS_AVX2, partial(turns.own, OURS_AVX2, AVX2_KERNEL, AVX2_KERNEL)))
    return _take_turns(order, n_rounds)


def _take_turns(
    order: Sequence[tuple[str, Callable[[], Turn]]], n_rounds: int, what: str = ""
) -> list[Round]:
    rounds: list[Round] = []
    with tqdm(total=n_rounds * len(order), disable=None, leave=False) as bar:
        for _ in range(n_rounds):
            round_: Round = {}
            for name, run in order:
                bar.set_description(f"{what}{name}")
                round_[name] = run()
                bar.update()
            rounds.append(round_)
    return rounds


def _contestants(options: argparse.Namespace) -> Contestants:
    """Builds and finds what takes part. Raises BenchmarkError."""
    against: list[str] | None = options.against
    llama_bench = None
    if against is None or LLAMA_BENCH in against:
        llama_bench = options.llama_bench or _tool(options, peers.NATIVE, peers.LLAMA_BENCH)
    llama_bench_avx2 = None
    if options.avx2:
        given = options.llama_bench_avx2
        llama_bench_avx2 = given or _tool(options, peers.AVX2, peers.LLAMA_BENCH)
    return Contestants(
        stock=against is None or STOCK in against,
        llama_bench=llama_bench,
        openvino=_openvino(options),
        avx2=options.avx2,
        llama_bench_avx2=llama_bench_avx2,
    )


def _tool(options: argparse.Namespace, kind: str, name: str) -> Path:
    return peers.tools(options.scratch, kind)[name]


def _openvino(options: argparse.Namespace) -> Path | None:
    """The Python to run it with; None where nobody asked for it and it is not installed."""
    if options.with_openvino:
        return peers.install_openvino(options.scratch)
    required = options.openvino_python is not None or OPENVINO in (options.against or ())
    if options.against is not None and not required:
        return None
    python: Path = options.openvino_python or peers.openvino_python(options.scratch)
    if peers.has_openvino(python):
        return python
    if required:
        raise BenchmarkError(
            f"{python} has no {peers.OPENVINO_PACKAGE}: add --with-openvino to install it"
        )
    return None


def _formats(options: argparse.Namespace, source: Work, meter: Meter) -> list[FormatRounds]:
    """Each format of the same model, our library against its own stock kernels."""
    quantize = options.llama_quantize or _tool(options, peers.NATIVE, peers.LLAMA_QUANTIZE)
    found = []
    for name in FORMATS:
        folder = options.scratch / "formats"
        model = _quantized(quantize, source.model, folder, name, source.threads)
        work = dataclasses.replace(
            source,
            model=model,
            cost=token_cost(model),
            prefill=min(source.prefill, FORMATS_PREFILL),
            sequences=0,
        )
        turns = Turns(work, meter, options.noise)
        order = (
            (STOCK, partial(turns.own, STOCK, kernels.OFF, None)),
            (OURS, partial(turns.own, OURS, kernels.AUTO, None)),
        )
        rounds = _take_turns(order, options.rounds, f"{name}, ")
        found.append(FormatRounds(name, round(work.bytes_a_token(0)), rounds))
    return found


def _quantized(program: Path, source: Path, folder: Path, name: str, threads: int) -> Path:
    """`source` in that format, made where it is missing or older."""
    target = folder / f"{source.stem}.{name}.gguf"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making {target}, once", file=sys.stderr)
        peers.quantize(program, source, target, name, threads)
    return target


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description="Compare sheily_native with its peers and with the bounds of this machine.",
    )
    whole = at_least(1)
    add = parser.add_argument
    add("--version", action=ShowVersion)
    add(
        "--model",
        type=absolute_path,
        metavar="FILE",
        help="a GGUF; default: the 3B shape, made in build/",
    )
    add("--rounds", type=whole, default=3, help="rounds of all contestants (3)")
    add("--threads", type=at_least(0), default=0, help="0: all CPUs (default)")
    add("--prefill", type=whole, default=512, metavar="N", help="tokens of the prompt (512)")
    add("--decode", type=at_least(2), default=24, metavar="N", help="tokens decoded (24)")
    add("--sequences", type=at_least(2), default=8, metavar="N", help="of a wide step (8)")
    text = "decode behind N tokens too"
    add("--long", type=at_least(0), default=0, metavar="N", help=text)
    text = "a peer; may be repeated. Default: stock, llama-bench, and openvino where installed"
    add("--against", choices=PEERS, action="append", help=text)
    add("--avx2", action="store_true", help="our AVX2 kernel too, and llama-bench built for AVX2")
    text = f"instead: {', '.join(FORMATS)} against the stock kernels; of --model or the 1B shape"
    add("--formats", action="store_true", help=text)
    text = "where peers are built and kept (build/peers)"
    add("--scratch", type=absolute_path, default=SCRATCH, metavar="DIR", help=text)
    add("--with-openvino", action="store_true", help="install OpenVINO GenAI there from PyPI")
    add("--openvino-python", type=absolute_path, metavar="FILE", help="a Python that has it")
    for name in ("llama-bench", "llama-bench-avx2", "llama-quantize"):
        add(
            f"--{name}",
            type=absolute_path,
            metavar="FILE",
            help="a program to use, not one built here",
        )
    text = "time for each measure of a bound (0.4)"
    add("--bound-seconds", type=float, default=0.4, metavar="S", help=text)
    text = "memory read for a bound: far more than the caches hold (1024)"
    add("--bound-mib", type=whole, default=1024, metavar="N", help=text)
    text = "repeat a turn once in which other programs used more CPU than this (0.2)"
    add("--noise", type=float, default=0.2, metavar="CORES", help=text)
    add("--plot", type=absolute_path, metavar="FILE", help="draw the figures: .png or .svg")
    add("--json", type=absolute_path, metavar="FILE", help="write the JSON line there too")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
