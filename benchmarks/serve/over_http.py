"""Our server as one side of the comparison with a bare loop: streams from it, and its processes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.common.report import BenchmarkError
from benchmarks.serve import client
from benchmarks.serve.client import Arrival, Ask, events, user
from benchmarks.serve.contestants import Server
from benchmarks.serve.loop_report import Stream, UnusableRoundError
from tools.server_process import children

_SPEED = re.compile(r" speed=([\d.]+)tok/s")


class OverHttp:
    """A running server of ours, which does not end with this handle."""

    def __init__(self, server: Server) -> None:
        """Raises BenchmarkError without /proc, which tells of the engine."""
        self._server = server
        try:
            [engine] = children(server.process.pid)
        except ValueError:
            raise BenchmarkError(
                "the engine process was not found: this benchmark needs Linux's /proc"
            ) from None
        self.pids = {"server process": server.process.pid, "engine process": engine}

    @property
    def logged_speeds(self) -> list[float]:
        """Tokens a second of each answer, as the server's log has them."""
        return [float(speed) for speed in _SPEED.findall(self._server.log)]

    def run(self, messages: Sequence[str], n_tokens: int) -> list[Stream]:
        """Greedy answers of `n_tokens` tokens to all the messages at once, in their order.

        Raises UnusableRoundError when an answer ended early, BenchmarkError when one failed.
        """
        start = threading.Barrier(len(messages))
        asked = [
            client.Stream(self._server.address, Ask([user(message)], n_tokens), {}, start)
            for message in messages
        ]
        return [_stream(*one.arrivals(), n_tokens) for one in asked]


def _stream(sent: float, arrivals: Iterable[Arrival], n_tokens: int) -> Stream:
    times: list[float] = []
    pieces: list[str] = []
    usage: dict[str, Any] | None = None
    for time_, event in events(arrivals):
        if "error" in event:
            raise BenchmarkError(f"the server failed: {event['error']}")
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            if content := choice["delta"].get("content"):
                times.append(time_)
                pieces.append(content)
            if choice["finish_reason"] is not None and times:
                times[-1] = time_
            if choice["finish_reason"] not in (None, "length"):
                raise UnusableRoundError("the model ended an answer early")
    if usage is None or usage["completion_tokens"] != n_tokens:
        raise BenchmarkError(f"{n_tokens} tokens were asked for; the usage is {usage}")
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return Stream(sent, times, n_tokens, usage["prompt_tokens"], cached, "".join(pieces))
