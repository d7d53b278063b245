"""The builds of a portable wheel beside the build for this machine: prefill and decode in turns,
alone or beside other programs.

`python -m benchmarks.micro.portable_wheel --wheel FILE [--model FILE] [--rounds R] [--busy N]`
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import msgspec

from benchmarks.common.arguments import absolute_path, at_least
from benchmarks.common.machine import this_machine
from benchmarks.common.models import shape_file
from benchmarks.common.report import BenchmarkError
from benchmarks.engine.worker import WORKER, Decode, Prefill, Setup, Worker
from sheily_native._threads import default_threads
from sheily_native.build import VARIABLE
from sheily_server.version import ShowVersion

NATIVE = "native"
BUILDS = ("v2", "v3", "v4")
# The worker of this checkout with the packages of a folder. The hooks of an editable package would
# lead to the checkout's own.
FROM_FOLDER = """
import runpy, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("benchmarks.engine.worker", run_name="__main__")
"""


class Rates(msgspec.Struct, frozen=True):
    """Tokens a second."""

    prefill: float
    decode: float


class Result(msgspec.Struct, frozen=True):
    """Medians of a build, and of its ratios to the native build's rates in the same rounds."""

    build: str
    prefill: float
    decode: float
    prefill_ratio: float
    decode_ratio: float


class Report(msgspec.Struct, frozen=True):
    model: str
    machine: str
    n_busy: int
    results: list[Result]


def measure(name: str, command: Sequence[str], options: argparse.Namespace) -> Rates | None:
    """One turn; None for a build that this CPU cannot run."""
    os.environ[VARIABLE] = "" if name == NATIVE else name
    try:
        with Worker(name, command) as worker:
            threads = default_threads()
            worker.order(Setup(str(options.model), threads, n_ctx=options.prefill + 64))
            prefill = worker.order(Prefill(options.prefill)).seconds
            decode = worker.order(Decode(options.decode)).seconds
    except BenchmarkError as error:
        if "does not have" in str(error):
            return None
        raise
    finally:
        del os.environ[VARIABLE]
    return Rates(options.prefill / prefill, options.decode / decode)


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Other programs, each of which would have a CPU for itself."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def run(options: argparse.Namespace) -> Report:
    rounds: dict[str, list[Rates]] = {}
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(options.wheel) as archive:
        archive.extractall(folder)
        portable = (sys.executable, "-c", FROM_FOLDER, folder)
        with busy(options.busy):
            for _ in range(options.rounds):
                for name in (NATIVE, *options.builds):
                    command = WORKER if name == NATIVE else portable
                    rates = measure(name, command, options)
                    if rates is not None:
                        rounds.setdefault(name, []).append(rates)
    machine = this_machine()
    results = []
    for name, found in rounds.items():
        pairs = list(zip(found, rounds[NATIVE], strict=True))
        results.append(
            Result(
                name,
                prefill=median(one.prefill for one in found),
                decode=median(one.decode for one in found),
                prefill_ratio=median(one.prefill / native.prefill for one, native in pairs),
                decode_ratio=median(one.decode / native.decode for one, native in pairs),
            )
        )
    return Report(options.model.name, machine.cpu, options.busy, results)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro.portable_wheel", description=__doc__
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("--wheel", type=absolute_path, required=True)
    parser.add_argument("--model", type=absolute_path, help="default: the 1B shape in Q8_0")
    parser.add_argument("--rounds", type=at_least(1), default=5)
    parser.add_argument("--prefill", type=at_least(1), default=256, help="tokens of the prompt")
    parser.add_argument("--decode", type=at_least(2), default=32, help="tokens decoded")
    parser.add_argument("--busy", type=at_least(0), default=0, help="other programs at work (0)")
    parser.add_argument("--builds", nargs="+", choices=BUILDS, default=BUILDS, help="(all)")
    options = parser.parse_args()
    options.model = options.model or shape_file("1b")
    report = run(options)
    for one in report.results:
        print(
            f"{one.build:<7} prefill {one.prefill:8.1f} tokens/s, {one.prefill_ratio:.2f} of native"
        )
        print(f"{'':<7} decode  {one.decode:8.1f} tokens/s, {one.decode_ratio:.2f} of native")
    print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main()
