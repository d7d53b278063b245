"""A native call that throws leaves no memory, no switch and no thread behind."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support import models

pytestmark = pytest.mark.usefixtures("hooks")
KEPT = 4
"""What of eight may be there still: each thread that loads may get a heap of its own from glibc,
which keeps what was freed in it."""


def left(place: str) -> Any:
    """What throwing.py says, in a process that has the library with hooks; a switch that is
    left set would fail it."""
    command = [sys.executable, "-m", "tests.robustness.faults.throwing", place]
    done = subprocess.run(command, cwd=models.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("place", ["model", "context"])
def test_what_was_made_before_the_throw_is_freed(place: str) -> None:
    memory = left(place)
    assert memory["one"] > 10_000_000
    assert memory["left"] < KEPT * memory["one"]


def test_a_step_that_throws_changes_nothing() -> None:
    assert left("decode") == {"heartbeat": 0, "length": 3, "logits": "none", "same": True}


def test_cells_that_are_half_shared_are_counted() -> None:
    assert left("share") == {"length": 1, "then": 3}


@pytest.mark.parametrize("place", ["compute", "weights"])
def test_a_kernel_is_no_longer_chosen_after_a_throw(place: str) -> None:
    assert left(place)["kernels"] >= 0


def test_threads_that_were_started_are_waited_for() -> None:
    assert left("thread") == {}


@pytest.mark.parametrize("place", ["cancel", "progress"])
def test_a_load_that_is_cancelled_is_freed(place: str) -> None:
    assert left(place)["left"] < KEPT * 65_000_000
