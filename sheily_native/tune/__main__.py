"""`python -m sheily_native.tune`: times a model on this machine, prints a table, writes a file."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import kernels
from .._busy import OtherPrograms
from .._threads import default_threads
from .._typed import python
from .._version import ShowVersion
from ..build import build_info
from ..errors import NativeError
from ..log import set_log_level
from ..model import Model
from . import record, report
from .advice import advice
from .measure import Bench, bounds
from .plan import Machine, Settings, Stage, kernels_to_try
from .report import Report
from .search import Row, Search

PROGRAM = "sheily_native.tune"
USAGE = f"python -m {PROGRAM}"
SERVER = python("-m", "sheily_server")
SECONDS = 160.0
_FLOAT_FILE_TYPES = {"0", "1", "32"}
"""llama.cpp's LLAMA_FTYPE_ALL_F32, MOSTLY_F16 and MOSTLY_BF16, in `general.file_type`."""
_KERNEL_FILE_TYPES = {None, "7"}
"""Files that do not say what they have, and llama.cpp's LLAMA_FTYPE_MOSTLY_Q8_0."""


class Screen:
    """Prints the table on stdout as it grows; on a terminal, says on stderr what is being timed."""

    def __init__(self, words: Report, began: float, seconds: float) -> None:
        self._words = words
        self._began = began
        self._bar: tqdm[Any] | None = None
        if sys.stderr.isatty():
            form = "{percentage:3.0f}% of at most {total:.0f} s |{bar:20}| {desc}"
            self._bar = tqdm(total=seconds, bar_format=form, leave=False)

    def print(self, lines: Sequence[str]) -> None:
        if self._bar is not None:
            self._bar.clear()
        print("\n".join(lines), flush=True)

    def before(self, stage: Stage, settings: Settings) -> None:
        self._say(f"{stage.name}: {self._words.name(settings)}")

    def after(self, stage: Stage, rows: Sequence[Row], winner: Settings) -> None:
        self.print(self._words.rows(stage, rows, winner))

    def on_load(self, fraction: float) -> None:
        self._say(f"loading the model: {fraction:.0%}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.n = min(time.monotonic() - self._began, self._bar.total)
            self._bar.set_description_str(text)


def main(
    arguments: Sequence[str] | None = None,
    *,
    program: str = USAGE,
    server: str = SERVER,
) -> int:
    """Returns the exit code: 0, 1 for a failure, 2 for unusable arguments, 130 for Ctrl-C.

    `program` is for the usage; `server` is a command for a shell that starts a server.
    """
    options = parser(program).parse_args(arguments)
    if options.model is None:
        return _refuse(
            "name a GGUF file; in the source folder "
            f"`{python('-m', 'tools.make_gguf', '3b', '3b.gguf')}` makes one of Llama 3.2 3B's "
            "shape with random weights",
            2,
        )
    try:
        return _tune(options, server)
    except (NativeError, OSError) as error:
        return _refuse(str(error), 1)
    except KeyboardInterrupt:
        return _refuse("stopped; nothing was written", 130)


def _tune(options: argparse.Namespace, server: str) -> int:
    began = time.monotonic()
    info = build_info()
    set_log_level(0)
    record.check_writable(options.out)
    with Model(options.model, vocab_only=True, kernel=kernels.AUTO) as vocabulary:
        auto = vocabulary.info.kernel or kernels.OFF
        file_type = vocabulary.metadata.get("general.file_type")
    try:
        for_weights = file_type in _KERNEL_FILE_TYPES
        to_try = kernels_to_try(options.kernels, kernels.usable(), auto, for_weights=for_weights)
    except ValueError as error:
        return _refuse(str(error), 2)
    n_threads = default_threads()
    blas = info.options.get("GGML_BLAS") == "ON"
    words = Report(
        info.cpu_model, n_threads=n_threads, auto=auto, blas=blas, for_weights=for_weights
    )
    others = OtherPrograms()
    measured = bounds(n_threads, min(1.0, options.seconds / 100))
    screen = Screen(words, began, options.seconds)
    try:
        screen.print([*words.machine(measured), "", *words.head()])
        with Bench(options.model, n_threads, screen.on_load) as bench:
            machine = Machine(n_threads, to_try, blas)
            deadline = began + options.seconds
            outcome = Search(bench, machine, screen, clock=time.monotonic, deadline=deadline).run()
            n_bytes = bench.n_bytes
        others.stop()
    finally:
        screen.close()
    record.write(
        options.out,
        record.document(
            cpu=info.cpu_model,
            model=options.model,
            settings=outcome.settings,
            figures=outcome.figures,
            bounds=measured,
        ),
    )
    lines = [
        "",
        *words.result(outcome),
        *others.sentences(),
        *report.reached(outcome.figures, measured.memory, n_bytes),
        *report.use(server, options.out, options.model),
        "",
        *advice(info, file_type in _FLOAT_FILE_TYPES),
    ]
    print("\n".join(lines))
    return 0


def _refuse(sentence: str, code: int) -> int:
    print(f"{PROGRAM}: {' '.join(sentence.split())}.", file=sys.stderr)
    return code


def parser(program: str = USAGE) -> argparse.ArgumentParser:
    """Returns the parser of the command's words, in whose usage `program` stands."""
    found = argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description="Find what computes a model fastest on this machine, and write it to a file "
        "that the server reads with --tuned.",
    )
    found.add_argument("--version", action=ShowVersion)
    found.add_argument("model", type=Path, nargs="?", metavar="MODEL.gguf")
    found.add_argument(
        "--out", type=Path, default=Path("sheily-tuned.json"), help="default: %(default)s"
    )
    found.add_argument(
        "--seconds", type=_seconds, default=SECONDS, help="most time to take (default: %(default)g)"
    )
    found.add_argument(
        "--kernels",
        type=lambda text: text.split(","),
        metavar="NAMES",
        help='to try beside "auto", separated by commas; off: llama.cpp\'s own (default: all that '
        "apply)",
    )
    return found


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not more than 0 seconds")
    return value


if __name__ == "__main__":
    sys.exit(main())
