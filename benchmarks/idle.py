"""A server that has unloaded its model: its memory, and the first token of who wakes it.

    python -m benchmarks.idle

The time to load is that of an engine which is started again because it was killed.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.common import own
from benchmarks.common.own import Findings, asked, spreads
from benchmarks.common.report import BenchmarkError
from benchmarks.serve.client import Address, Ask, ask_all, user
from benchmarks.serve.contestants import IGNORE_EOS, START_S, Server, ours_with
from tools.server_process import children

NAME = "benchmarks.idle"
IDLE_S = 3
ASKED_MB = 100
ASKED_MORE_MS = 1000
_ASLEEP_S = 60.0
_POLL_S = 0.01
_SETTLE_S = 1.0
_FEW_TOKENS = 4


def measure(model: Path, rounds: int) -> Findings:
    """Raises BenchmarkError."""
    seen: dict[str, list[float]] = {
        name: [] for name in ("load_s", "awake_mb", "asleep_mb", "first_s", "ordinary_s")
    }
    with Server(ours_with(model, idle_unload=IDLE_S)) as server:
        for number in tqdm(range(rounds), disable=None, leave=False):
            seen["first_s"].append(_first_s(server.address, f"Wake up, {number}."))
            seen["ordinary_s"].append(_first_s(server.address, f"Good morning, {number}."))
            seen["awake_mb"].append(_rss_mb(server))
            seen["load_s"].append(_load_s(server))
            _first_s(server.address, "Are you there?")  # or this would be one of too many deaths
            _until(server.address, {"state": "sleeping"}, _ASLEEP_S)
            time.sleep(_SETTLE_S)
            seen["asleep_mb"].append(_rss_mb(server))
        seen["first_s"].append(_first_s(server.address, f"Wake up, {rounds}."))
    seen["first_s"] = seen["first_s"][1:]  # the first one found the model loaded
    more_ms = [
        1e3 * (first - load) for first, load in zip(seen["first_s"], seen["load_s"], strict=True)
    ]
    figures = {
        "resident memory awake, MB": seen["awake_mb"],
        "resident memory asleep, MB": seen["asleep_mb"],
        "time to load, s": seen["load_s"],
        "first token of who wakes it, s": seen["first_s"],
        "first token awake, s": seen["ordinary_s"],
    }
    verdicts = [
        asked("resident memory asleep", ASKED_MB, seen["asleep_mb"], unit="MB"),
        asked("first token of who wakes it, over the load", ASKED_MORE_MS, more_ms, unit="ms"),
    ]
    return Findings(spreads(figures), verdicts)


def _first_s(address: Address, text: str) -> float:
    (answer,) = ask_all(address, [Ask([user(text)], _FEW_TOKENS)], IGNORE_EOS)
    return answer.first_s


def _rss_mb(server: Server) -> float:
    """Of the server's processes together."""
    return (server.memory().rss or 0) / 1e6


def _load_s(server: Server) -> float:
    """From the end of the engine to the next one's being ready."""
    engines = children(server.process.pid)
    if not engines:
        raise BenchmarkError("there is no engine process")
    deaths = _health(server.address)["engine_restarts"]
    began = time.monotonic()
    for engine in engines:
        os.kill(engine, signal.SIGKILL)
    _until(server.address, {"state": "ready", "engine_restarts": deaths + 1}, START_S)
    return time.monotonic() - began


def _until(address: Address, wanted: dict[str, object], seconds: float) -> None:
    """Waits until /health says so."""
    end = time.monotonic() + seconds
    while not wanted.items() <= _health(address).items():
        if time.monotonic() > end:
            raise BenchmarkError(f"the server was not {wanted} within {seconds:.0f} s")
        time.sleep(_POLL_S)


def _health(address: Address) -> dict[str, Any]:
    connection = http.client.HTTPConnection(*address, timeout=_ASLEEP_S)
    try:
        connection.request("GET", "/health")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m benchmarks.idle`; the exit status is 1 when nothing could be measured."""
    text = "The memory of a server that has unloaded its model, and what waking it costs."
    options = own.parser(NAME, text, rounds=3).parse_args(arguments)
    return own.finish(NAME, options, lambda model: measure(model, options.rounds))


if __name__ == "__main__":
    raise SystemExit(main())
