"""The engine is killed, aborts, hangs or stands still, with requests under way."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from tests.robustness.faults.report import amount, decide, note
from tests.robustness.faults.requests import (
    CRASHED,
    SETTINGS,
    Round,
    active,
    body,
    broken,
    end_of,
    next_token,
    worst,
)
from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import until

MOST_TOKEN_S = 2.0
HANG_S = 2.0


def _struck(server: RealServer, number: signal.Signals, times: int) -> list[Round]:
    """The engine gets a signal at a random moment, so many times."""
    random = Random(times)

    def strike() -> None:
        os.kill(server.engine_pid(), number)

    return [broken(server, strike, after_s=random.random() * 0.5) for _ in range(times)]


def test_kill_9_under_load() -> None:
    times = amount(3, 200)
    with RealServer(models.smollm2(), **SETTINGS) as server:
        server.wait_for_state("ready")
        found = worst(_struck(server, signal.SIGKILL, times))
        assert "SIGKILL" in server.log
    note("kill -9 under load", times, f"token within {MOST_TOKEN_S:g} s", **found)
    decide(found["token_max_s"] <= MOST_TOKEN_S, f"{found}")


@pytest.mark.skipif("MODEL_3B" not in os.environ, reason="MODEL_3B is no path of a large model")
def test_kill_9_of_a_large_model_under_load() -> None:
    times = amount(1, 20)
    began = time.monotonic()
    with RealServer(Path(os.environ["MODEL_3B"]), **SETTINGS) as server:
        server.wait_for_state("ready", 600)
        load_s = time.monotonic() - began
        found = worst(_struck(server, signal.SIGKILL, times))
    limit = load_s + MOST_TOKEN_S
    note("kill -9, large model", times, f"token within {limit:.1f} s", load_s=load_s, **found)
    decide(found["token_max_s"] <= limit, f"{found}")


def test_an_abort_in_native_code(hooks: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = tmp_path / "abort"
    hooks.setenv("SHEILY_TEST_ABORT", str(order))
    times = amount(3, 50)
    with RealServer(models.smollm2(), **SETTINGS) as server:
        server.wait_for_state("ready")
        found = worst([broken(server, order.touch, from_end=True) for _ in range(times)])
        assert server.log.count("a test wants this step to abort") >= times
        assert "SIGABRT" in server.log
    note("abort in native code", times, f"token within {MOST_TOKEN_S:g} s", **found)
    decide(found["token_max_s"] <= MOST_TOKEN_S, f"{found}")


def _under_way(server: RealServer, n: int) -> None:
    until(lambda: active(server) == n)


def test_a_request_that_aborts_each_time(hooks: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is refused after three times; what ran beside it then goes alone, and is answered."""
    order = tmp_path / "abort"
    hooks.setenv("SHEILY_TEST_ABORT", str(order))
    killer = body("Tell me a story.", max_tokens=1000, ignore_eos=True)
    beside = body("Tell me another one.", max_tokens=100, ignore_eos=True)
    endings = []
    with RealServer(models.smollm2(), **SETTINGS) as server, ThreadPoolExecutor() as pool:
        for together in ([killer, beside], [killer, beside], [killer]):
            server.wait_for_state("ready")
            asked = [pool.submit(end_of, server, data) for data in together]
            _under_way(server, len(together))
            order.touch()
            endings += [(one.result().kind, one.result().code) for one in asked]
        server.wait_for_state("ready")
        endings += [
            (end.kind, end.code) for end in (end_of(server, killer), end_of(server, beside))
        ]
        restarts = server.health()["engine_restarts"]
        next_token(server)
    refused = ("error", "request_crashes_engine")
    assert endings == [("error", CRASHED)] * 4 + [refused, refused, ("answered", "")]
    assert restarts == 3
    note("request that aborts each time", 1, "refused the third time, others answered", deaths=3)


def test_a_step_that_never_ends(hooks: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = tmp_path / "hang"
    hooks.setenv("SHEILY_TEST_HANG", str(order))
    times = amount(1, 10)
    with RealServer(models.smollm2(), hang_timeout=HANG_S, **SETTINGS) as server:
        server.wait_for_state("ready")
        found = worst([broken(server, order.touch, from_end=True) for _ in range(times)])
        assert "hung: a step has stood still" in server.log
    note("step that hangs", times, f"token within {MOST_TOKEN_S:g} s of the kill", **found)
    decide(found["token_max_s"] <= MOST_TOKEN_S, f"{found}")


def test_the_usual_library_has_no_hooks() -> None:
    found = importlib.util.find_spec("sheily_native._native")
    assert found is not None
    assert found.origin is not None
    assert b"SHEILY_TEST_" not in Path(found.origin).read_bytes()


def test_an_engine_that_is_stopped() -> None:
    times = amount(1, 20)
    with RealServer(models.smollm2(), hang_timeout=HANG_S, **SETTINGS) as server:
        server.wait_for_state("ready")
        rounds = _struck(server, signal.SIGSTOP, times)
        assert "hung: nothing came from it" in server.log
    found = worst(rounds)
    decide(min(one.to_ends_s for one in rounds) > HANG_S / 2, f"too soon: {rounds}")
    limit = HANG_S + 0.5 + MOST_TOKEN_S
    note("SIGSTOP of the engine", times, f"token within {limit:g} s", **found)
    decide(found["token_max_s"] <= limit, f"{found}")
