"""Clients that go away at random points: their slots are free at once, and nothing is left."""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import time
from random import Random

from tests.robustness.faults.report import amount, decide, note, percentile
from tests.robustness.faults.requests import SETTINGS, active, body, connect
from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import WAIT, until

GRACE_S = 0.25
PROMPT = "The keeper climbed the hundred and twelve steps to light the lamp. " * 20
_HEADERS = {"Content-Type": "application/json"}


def test_disconnects_at_random_points() -> None:
    times = amount(15, 2000)
    random = Random(times)
    with RealServer(models.smollm2(), **SETTINGS) as server:
        server.wait_for_state("ready")
        step_s = max(_longest_step(server) for _ in range(3))
        before = _descriptors(server)
        seconds = [_left(server, random, number) for number in range(times)]
        until(lambda: server.health()["kv_cells_used"] == 0, what="for free cells")
        assert server.health()["engine_restarts"] == 0
        after = _descriptors(server)
    assert all(abs(a - b) <= 2 for a, b in zip(after, before, strict=True)), (before, after)
    limit = step_s + GRACE_S
    found = {
        "step_s": step_s,
        "free_median_s": percentile(seconds, 50),
        "free_p99_s": percentile(seconds, 99),
        "free_max_s": max(seconds),
        "leaks": 0,
    }
    note("disconnects", times, f"slot free within a step + {GRACE_S:g} s, no leak", **found)
    decide(max(seconds) <= limit, f"{found}")


def _left(server: RealServer, random: Random, number: int) -> float:
    """Asks, leaves somewhere on the way; seconds until the server has nothing to do."""
    text = f"Number {number}: " + random.choice(("tell a story.", PROMPT))
    data = body(text, stream=random.random() < 0.6, max_tokens=1500, ignore_eos=True)
    connection = connect(server)
    connection.request("POST", "/v1/chat/completions", data, _HEADERS)
    until(lambda: active(server) == 1, what="for the request to be there")
    way = random.random()
    if way < 0.6:
        time.sleep(random.random() * 0.5)
    elif way < 0.8 and b'"stream": true' in data:
        connection.sock.recv(random.choice((1, 50, 2000)))
    if random.random() < 0.3:  # as a process that dies may
        linger = struct.pack("ii", 1, 0)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()
    began = time.monotonic()
    while active(server):
        assert time.monotonic() - began < WAIT, server.log[-2000:]
        time.sleep(0.002)
    return time.monotonic() - began


def _longest_step(server: RealServer) -> float:
    """Seconds that a step full of prompt takes: longer than one of an answer."""
    connection = connect(server)
    try:
        data = body(f"{time.monotonic()} {PROMPT * 4}", max_tokens=1)
        connection.request("POST", "/v1/chat/completions", data, _HEADERS)
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    n_steps: int = math.ceil(answer["usage"]["prompt_tokens"] / 128)
    return float(answer["timings"]["prompt_ms"]) / 1000 / n_steps


def _descriptors(server: RealServer) -> list[int]:
    return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (server.process.pid, server.engine_pid())]
