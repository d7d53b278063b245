"""Requests that are under way while something breaks, and how each of them ends."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.real_server import RealServer
from tests.support.waiting import WAIT, until

WAIT_S = 300.0
SETTINGS: dict[str, Any] = {"context_size": 2048, "max_tokens": 1900, "drain_timeout": 1}
"""Of a server whose answers may take long enough to be broken off."""
CRASHED = "engine_crashed"
_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Ending:
    """What a request came to: `error` with its code, `answered`, or what must not be; and when."""

    kind: str
    code: str = ""
    at: float = 0.0


def body(text: str, **fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}]} | fields).encode()


def connect(server: RealServer) -> http.client.HTTPConnection:
    return server.connection(WAIT_S)


def end_of(server: RealServer, data: bytes) -> Ending:
    """Asks for a completion and reads it to its end."""
    connection = connect(server)
    try:
        connection.request("POST", "/v1/chat/completions", data, _HEADERS)
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        return Ending("no answer", repr(error), time.monotonic())
    finally:
        connection.close()
    at = time.monotonic()
    if response.status != 200:
        return Ending("error", f"{json.loads(answer)['error']['code']}", at)
    if not answer.startswith((b"data: ", b": ")):
        return Ending("answered", "", at)
    *blocks, rest = answer.decode().split("\n\n")
    if rest or not blocks:
        return Ending("cut off", answer[-200:].decode(), at)
    if "data: [DONE]" in blocks:
        return Ending("answered", "", at)
    last = json.loads(blocks[-1].removeprefix("data: "))
    if set(last) != {"error"} or answer.count(b'data: {"error"') != 1:
        return Ending("no end", answer[-200:].decode(), at)
    return Ending("error", f"{last['error']['code']}", at)


class UnderWay:
    """So many requests, every second one a stream, that would take minutes to be answered."""

    def __init__(self, server: RealServer, n: int) -> None:
        """Returns when the server has all of them."""
        self._endings: list[Ending] = []
        self._threads = [
            threading.Thread(target=self._one, args=(server, i), daemon=True) for i in range(n)
        ]
        for thread in self._threads:
            thread.start()
        until(
            lambda: self._all_there(server, n),
            what=f"for the requests to be under way {server.log}",
        )

    def _all_there(self, server: RealServer, n: int) -> bool:
        assert not self._endings, self._endings
        return active(server) == n

    def _one(self, server: RealServer, number: int) -> None:
        text = f"Story {number} of {time.monotonic()}: tell it at length."
        fields: dict[str, Any] = {"max_tokens": 1900, "ignore_eos": True, "temperature": 1}
        self._endings.append(end_of(server, body(text, stream=number % 2 == 0, **fields)))

    @property
    def ended_early(self) -> list[Ending]:
        """Those that have ended by now."""
        return list(self._endings)

    def ended(self, seconds: float = WAIT) -> list[Ending]:
        """Waits for all of them."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))
        assert not any(thread.is_alive() for thread in self._threads), "a request has no end"
        return self._endings


def active(server: RealServer) -> int:
    return int(server.health()["active_requests"])


@dataclass(frozen=True, slots=True)
class Round:
    """One break: seconds from it to the last ending, and to the next token."""

    to_ends_s: float
    to_token_s: float


def broken(
    server: RealServer,
    break_it: Callable[[], None],
    n: int = 6,
    after_s: float = 0.0,
    from_end: bool = False,
) -> Round:
    """Breaks the engine with requests under way, `after_s` after the server has them: each of them
    ends in an error, and the next one is answered. `from_end`: time counts from the first ending
    on."""
    restarts = server.health()["engine_restarts"]
    under_way = UnderWay(server, n)
    time.sleep(after_s)
    began = time.monotonic()
    break_it()
    endings = under_way.ended()
    if from_end:
        began = min(ending.at for ending in endings)
    kinds = Counter((ending.kind, ending.code) for ending in endings)
    assert kinds == {("error", CRASHED): n}, (kinds, server.log[-2000:])
    to_token = next_token(server) - began
    assert server.health()["engine_restarts"] == restarts + 1
    assert active(server) == 0
    return Round(max(ending.at for ending in endings) - began, to_token)


def next_token(server: RealServer, seconds: float = 120.0) -> float:
    """When the first token of a new stream has come, asked for until there is one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection = connect(server)
        try:
            connection.request(
                "POST", "/v1/chat/completions", body("Hi", stream=True, max_tokens=1), _HEADERS
            )
            response = connection.getresponse()
            if response.status == 200:
                data = response.read()
                assert b"data: [DONE]" in data, data
                return time.monotonic()
            error = json.loads(response.read())["error"]
            assert response.status == 503, error
            assert int(response.headers["Retry-After"]) >= 1
        finally:
            connection.close()
        time.sleep(0.01)
    raise AssertionError(f"no token in {seconds} s: {server.log[-2000:]}")


def worst(rounds: Sequence[Round]) -> dict[str, float]:
    """What is noted of many rounds."""
    tokens = sorted(one.to_token_s for one in rounds)
    return {
        "ends_max_s": max(one.to_ends_s for one in rounds),
        "token_median_s": tokens[len(tokens) // 2],
        "token_max_s": tokens[-1],
    }
