"""The server process is killed, and cannot say goodbye: its engine leaves all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.robustness.faults.report import amount, decide, note
from tests.robustness.faults.requests import SETTINGS, UnderWay
from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import until

MOST_S = 2.0


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def killable(model: Path) -> Iterator[RealServer]:
    server = RealServer(model, **SETTINGS)
    try:
        yield server
    finally:
        server.stop()


def killed(server: RealServer) -> float:
    """Kills the server; seconds until its engine is gone."""
    engine = server.engine_pid()
    server.process.kill()
    began = time.monotonic()
    until(lambda: not alive(engine), what="for the engine to leave")
    return time.monotonic() - began


def test_the_server_killed_at_any_time() -> None:
    """While the model loads, when it waits, and under load."""
    times = amount(3, 50)
    random = Random(1)
    seconds = []
    for i in range(times):
        with killable(models.tiny_llama3()) as server:
            _wait(server, ("loading", "ready", "busy")[i % 3], random)
            seconds.append(killed(server))
    found = {"max_s": max(seconds), "median_s": sorted(seconds)[len(seconds) // 2]}
    note("server killed", times, f"engine gone within {MOST_S:g} s", **found)
    decide(max(seconds) <= MOST_S, f"{found}")


def test_the_server_killed_while_a_step_hangs(hooks: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = tmp_path / "hang"
    hooks.setenv("SHEILY_TEST_HANG", str(order))
    with killable(models.tiny_llama3()) as server:
        server.wait_for_state("ready")
        UnderWay(server, 2)
        order.touch()
        until(lambda: not order.exists(), what="for the step that hangs")
        seconds = killed(server)
    note("server killed while a step hangs", 1, f"engine gone within {MOST_S:g} s", max_s=seconds)
    decide(seconds <= MOST_S, f"{seconds} s")


def _wait(server: RealServer, state: str, random: Random) -> None:
    if state == "loading":
        time.sleep(random.random())
        until(lambda: _has_engine(server))
        return
    server.wait_for_state("ready")
    if state == "busy":
        UnderWay(server, 4)


def _has_engine(server: RealServer) -> bool:
    try:
        server.engine_pid()
    except ValueError:
        return False
    return True
