"""A run of the tests fails when one of them leaves a process behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import models

IMPATIENT = """
from tests import conftest

conftest.GONE_S = 0.0
"""
LEAVES = """
import subprocess


def test_it():
    subprocess.run(["sh", "-c", "{command}"], check=True)
"""


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(IMPATIENT)
    (folder / "test_it.py").write_text(LEAVES.format(command=command))
    pytest_command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*pytest_command, f"--rootdir={folder}", folder],
        cwd=models.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["sleep 601 &", "setsid sleep 601 >/dev/null 2>&1 &"])
def test_a_process_that_is_left_is_named_and_ended(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, command)
    assert done.returncode == 1, done.stdout
    assert "1 passed, 1 error" in done.stdout
    assert "the tests left processes behind: " in done.stdout
    assert "(sleep 601)" in done.stdout
    left = subprocess.run(["pgrep", "-f", "^sleep 601$"], check=False, capture_output=True)
    assert left.stdout == b""


def test_what_has_ended_is_none(tmp_path: Path) -> None:
    done = run(tmp_path, "sleep 0")
    assert done.returncode == 0, done.stdout + done.stderr
