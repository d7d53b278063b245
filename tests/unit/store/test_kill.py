"""Servers that are killed (SIGKILL) while they store, erase and begin: nothing that was stored is
lost or half there. tests/support/killed_store.py has what is done and what is checked."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: only what the kernel has of the files matters here."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


def moments(way: str, folder: Path) -> int:
    """Kills processes in that way; returns at how many moments."""
    command = [sys.executable, "-m", "tests.support.killed_store", way, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "the process cannot be traced" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("processes may not be traced here")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_killed_at_drawn_moments(folder: Path) -> None:
    assert moments("random", folder) == 50


def test_killed_between_any_two_statements(folder: Path) -> None:
    assert moments("statements", folder) > 25


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not hasattr(ctypes.CDLL(None), "ptrace"),
    reason="reads the numbers of x86-64's system calls with ptrace",
)
def test_killed_between_any_two_changes_of_a_file(folder: Path) -> None:
    assert moments("changes", folder) > 100
