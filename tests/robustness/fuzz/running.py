"""One fuzz target run over many inputs: which input comes when, what counts as a failure, and what
is kept of it. Knows no target."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from tqdm import tqdm

from tests.support.models import ROOT

CORPUS = Path(__file__).parent / "corpus"
FOUND = ROOT / "build" / "fuzz"
HANG_S = 60.0
_STUCK_S = 120.0
_MOST_FAILURES = 100
_MOST_SHOWN = 300
_STDERR = 2


class HangError(AssertionError):
    """An input took longer than it may."""


class UnplannedError(AssertionError):
    """An answer of 500 that nobody asked for."""


@dataclass(frozen=True)
class Target:
    """`make` gives an input; `check` looks at what is done with one, names the outcome, and raises
    what the one input does that none may. `extra` is added to the report at the end; its `over` are
    the figures over a limit, which fail `make fuzz` and no test."""

    make: Callable[[Random], bytes]
    check: Callable[[bytes], str]
    hang_s: float = HANG_S
    extra: Callable[[], dict[str, Any]] = dict


@dataclass
class Report:
    """What a run has seen; `json` is the last line of its output."""

    target: str
    seed: int
    cases: int = 0
    crashes: int = 0
    hangs: int = 0
    unplanned_500: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def n_failures(self) -> int:
        return self.crashes + self.hangs + self.unplanned_500

    def json(self) -> str:
        body = {name: value for name, value in vars(self).items() if name != "extra"}
        body["seconds"] = round(self.seconds, 1)
        body["outcomes"] = dict(self.outcomes.most_common())
        return json.dumps(body | self.extra)


def random_of(seed: int, case: int) -> Random:
    """The source of one case's input: the same whichever cases came before."""
    return Random(f"{seed}/{case}")


def corpus(name: str) -> list[Path]:
    """The inputs that are kept of a target: where it began, and what was found once."""
    return sorted(path for path in (CORPUS / name).glob("*") if not path.name.startswith("."))


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in corpus(name)]


def run(
    name: str,
    target: Target,
    cases: int,
    seed: int = 0,
    minutes: float | None = None,
    *,
    alarm: bool = False,
    progress: bool = False,
) -> Report:
    """Checks `cases` inputs, or as many as the minutes give. With `alarm`, which takes the
    process's SIGALRM, an input that hangs in Python is left after its time."""
    report = Report(name, seed)
    began = time.monotonic()
    end = None if minutes is None else began + 60 * minutes
    folder = FOUND / name
    folder.mkdir(parents=True, exist_ok=True)
    # A crash of this whole process leaves the input here.
    current = os.open(folder / "current", os.O_RDWR | os.O_CREAT, 0o600)
    bar = tqdm(total=cases, desc=name, unit="case", disable=not progress, mininterval=1.0)
    try:
        for case in range(cases):
            if end is not None and time.monotonic() >= end:
                break
            data = target.make(random_of(seed, case))
            os.pwrite(current, data, 0)
            os.ftruncate(current, len(data))
            _one(target, report, data, alarm)
            bar.update()
            if report.n_failures >= _MOST_FAILURES:
                print(f"{name}: enough failures", file=sys.stderr)
                break
    finally:
        bar.close()
        os.close(current)
    report.seconds = time.monotonic() - began
    report.extra = target.extra()
    return report


def _one(target: Target, report: Report, data: bytes, alarm: bool) -> None:
    report.cases += 1
    try:
        report.outcomes[checked(target, data, alarm)] += 1
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        report.hangs += isinstance(error, HangError)
        report.unplanned_500 += isinstance(error, UnplannedError)
        report.crashes += not isinstance(error, HangError | UnplannedError)
        path = FOUND / report.target / hashlib.sha256(data).hexdigest()[:16]
        path.write_bytes(data)
        lines = traceback.format_exc().splitlines()
        shown = "\n".join(line[:_MOST_SHOWN].encode(errors="replace").decode() for line in lines)
        print(f"\n{report.target}: {path}\n{shown}", file=sys.stderr)


def checked(target: Target, data: bytes, alarm: bool = False) -> str:
    """The outcome of one input; raises what `check` raises, and HangError where it took long."""
    began = time.monotonic()
    with _alarm(target.hang_s) if alarm else _no_alarm():
        outcome = target.check(data)
    seconds = time.monotonic() - began
    if seconds > target.hang_s:
        raise HangError(f"took {seconds:.1f} s")
    return outcome


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """HangError in Python code after the time; native code that never returns ends the process."""

    def on_alarm(signum: int, frame: FrameType | None) -> None:
        raise HangError(f"takes more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(_STUCK_S, exit=True, file=_STDERR)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _no_alarm() -> Iterator[None]:
    yield
