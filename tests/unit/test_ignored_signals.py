"""Tests that interrupt a program pass where the run of the tests ignores SIGINT, as one in the
background of a shell does: programs inherit that."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.models import ROOT
from tests.support.waiting import WAIT

SLEEPER = [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(1000)"]

# Those that install a handler of their own, whatever they inherit, or are to ignore the signal.
HEARING = {
    "tests/server/test_main.py": "the server",
    "tests/native/test_compilers.py": "the compilers' process, which is to ignore it",
    "tests/unit/client/test_interrupts.py": "this process",
    "tests/support/terminal.py": "a terminal, whose program sets its own",
    "tests/support/processes.py": "what makes others hear it",
    "tests/unit/test_ignored_signals.py": "this file",
}


@pytest.fixture(autouse=True)
def ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def ignores(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^SigIgn:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert found
    return bool(int(found[1], 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.parametrize("hears", [True, False])
def test_a_program_hears_an_interrupt_only_if_it_is_made_to(hears: bool) -> None:
    command = processes.hearing_interrupts(SLEEPER) if hears else SLEEPER
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == b"on\n"
            assert ignores(process.pid) is not hears
            if hears:
                process.send_signal(signal.SIGINT)
                assert process.wait(WAIT) == -signal.SIGINT
        finally:
            process.kill()


def test_whoever_interrupts_a_program_makes_it_hear() -> None:
    using = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").rglob("*.py")
        if "signal.SIGINT" in path.read_text(encoding="utf-8")
    }
    assert set(HEARING) <= set(using)
    for name in set(using) - set(HEARING):
        assert "hearing_interrupts(" in using[name], name
