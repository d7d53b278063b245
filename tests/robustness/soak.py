"""A server under mixed traffic for as long as you like: does it grow, leak, or fail?

`python -m tests.robustness.soak --minutes 60 [--model PATH] [--clients N]` starts the real server,
lets several clients ask for everything that it can do and for what it refuses, one in ten leaving
at a random point, and looks at memory, file descriptors and KV cells. Prints a table, and JSON in
the last line; exits with 1 over a limit.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import until

MOST_SLOPE = 1.0
"""MiB an hour, of both processes together, after the warm-up."""
MOST_FDS = 2
MOST_GROWTH = 128 << 20
"""Bytes, of both processes together, from the first quarter of any run to its end."""
SURE_AFTER_MIN = 30.0
"""From this length on the slope decides; a shorter run is over the limit when it surely is."""
WARM_UP, LEAST_WARM_UP_S = 0.25, 300.0
"""The part of a run, and the seconds at least, in which caches fill: they are in no slope."""
FILLED_FROM_MIN = 10.0
QUICK_REQUESTS, BRIEF_REQUESTS = 50_000, 30_000
"""A run of so many minutes begins with so many requests, of some kinds and of all with answers of
one token: glibc keeps up to 0.2 MiB of freed memory for each thread, of which a server has 33. Over
a fake engine that is full after 28,000 of all kinds, which the real traffic takes hours for."""
TOKEN_STEP, TOKENS_AT_ONCE = 8, 700
"""Of the vocabulary every eighth token is read, as many rows of a small model share a page."""
LEAST_POINTS = 10
SAMPLE_S = 2.0
PAGE = os.sysconf("SC_PAGE_SIZE")
ABORTED = 0.1
WAIT_S = 120.0
_MIB = 1 << 20

Json = dict[str, Any]


# --- traffic --------------------------------------------------------------------------------------

_TEXT = (
    "The old lighthouse stood on a rock far out in the bay, and every evening at the same hour a "
    "keeper climbed its hundred and twelve steps to light the lamp. "
)
_PERSON: Json = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
_TOOL: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}

_KINDS = (
    *("short", "short", "long", "stream", "stream", "turns", "schema", "tools", "prediction"),
    *("choices", "logprobs", "simple", "bad", "bad", "tokenize", "detokenize", "overlong"),
)
_QUICK = ("bad", "tokenize", "detokenize", "overlong")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the traffic: what kind it is, and which statuses are right for it."""

    kind: str
    path: str
    body: bytes
    right: tuple[int, ...] = (200,)


def _user(text: str) -> Json:
    return {"role": "user", "content": text}


def _chat(kind: str, messages: list[Json], right: tuple[int, ...] = (200,), **fields: Any) -> Asked:
    body = json.dumps({"messages": messages} | fields).encode()
    return Asked(kind, "/v1/chat/completions", body, right)


def request(random: Random, kinds: Sequence[str] = _KINDS) -> Asked:
    """A request of one of the kinds; texts differ, so that little is a repetition."""
    n = random.randrange(10**6)
    kind = random.choice(kinds)
    if kind == "short":
        return _chat(kind, [_user(f"What is {n} plus one?")], max_tokens=random.choice((1, 8, 24)))
    if kind == "long":
        text = f"Number {n}. " + _TEXT * random.choice((4, 10, 20)) + "What is this about?"
        return _chat(kind, [_user(text)], max_tokens=32)
    if kind == "stream":
        fields: Json = {"stream": True, "stream_options": {"include_usage": True}}
        text = f"Tell me a story about the number {n}."
        return _chat(kind, [_user(text)], max_tokens=random.choice((16, 64)), **fields)
    if kind == "turns":
        messages = [{"role": "system", "content": "You are a patient guide."}]
        for turn in range(random.choice((1, 2, 3))):
            messages += [_user(f"Step {turn} of tour {n % 50}?")]
            messages += [{"role": "assistant", "content": "We walk along the bay and look at it."}]
        return _chat(kind, [*messages, _user("And then?")], max_tokens=16, temperature=0)
    if kind == "schema":
        form = {"type": "json_schema", "json_schema": {"name": "person", "schema": _PERSON}}
        return _chat(kind, [_user(f"A person, {n}.")], max_tokens=40, response_format=form)
    if kind == "tools":
        choice = random.choice(("auto", "required"))
        # Not every dialect knows function calls.
        messages = [_user(f"How is the weather in {n}?")]
        right = (200, 400)
        return _chat(kind, messages, right, max_tokens=32, tools=[_TOOL], tool_choice=choice)
    if kind == "prediction":
        text = f"Repeat: {_TEXT} {n}"
        predicted = {"type": "content", "content": _TEXT}
        return _chat(kind, [_user(text)], max_tokens=32, prediction=predicted, temperature=0)
    if kind == "choices":
        return _chat(kind, [_user(f"A word with {n}?")], n=2, max_tokens=8, seed=n)
    if kind == "logprobs":
        return _chat(kind, [_user(f"Name {n}.")], max_tokens=8, logprobs=True, top_logprobs=5)
    if kind == "simple":
        body = json.dumps({"message": f"Say {n}.", "max_tokens": 8}).encode()
        return Asked(kind, "/chat", body)
    if kind == "tokenize":
        return Asked(kind, "/v1/tokenize", json.dumps({"text": f"{_TEXT}{n}"}).encode())
    if kind == "detokenize":
        tokens = [random.randrange(1000) for _ in range(50)]
        return Asked(kind, "/v1/detokenize", json.dumps({"tokens": tokens}).encode())
    if kind == "overlong":
        return _chat(kind, [_user(_TEXT * 200)], (400,), max_tokens=8)
    return _bad(random)


_USER = '"messages": [{"role": "user", "content": "x"}]'
_BAD = (
    ("{", 400),
    ('{"messages": []}', 400),
    ('{"messages": [{"role": "user", "content": 5}]}', 400),
    (f'{{{_USER}, "temperature": 9}}', 400),
    (f'{{{_USER}, "logit_bias": {{"9999999": 1}}}}', 400),
    (f'{{{_USER}, "model": "another"}}', 404),
    (
        f'{{{_USER}, "response_format": {{"type": "json_schema", "json_schema": {{"name": "a", '
        '"strict": true, "schema": {"$ref": "#/no"}}}}',
        400,
    ),
)


def _bad(random: Random) -> Asked:
    body, right = random.choice(_BAD)
    return Asked("bad", "/v1/chat/completions", body.encode(), (right,))


# --- clients --------------------------------------------------------------------------------------


@dataclass
class Outcomes:
    """What came of the requests, by kind and by what it was. Thread-safe."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, outcome: str, wrong: str = "") -> None:
        with self._lock:
            self.counts[kind, outcome] += 1
            if wrong and len(self.wrong) < 100:
                self.wrong.append(wrong)

    def total(self) -> int:
        with self._lock:
            return sum(self.counts.values())


def _ask(
    port: int, asked: Asked, random: Random, outcomes: Outcomes, aborted: float = ABORTED
) -> None:
    """One request on a connection of its own; so many of them are left at some point."""
    leaves = random.random() < aborted
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        if leaves:
            _leave(connection, asked, random)
            outcomes.add(asked.kind, "left")
            return
        connection.request("POST", asked.path, asked.body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
        wrong = ""
        if response.status not in asked.right:
            wrong = f"{asked.kind}: {response.status} {data[:300]!r}"
        elif response.status == 200 and asked.kind == "stream" and b"data: [DONE]" not in data:
            wrong = f"{asked.kind}: a stream without its end: {data[-300:]!r}"
        outcomes.add(asked.kind, str(response.status), wrong)
    except (OSError, http.client.HTTPException) as error:
        outcomes.add(asked.kind, "no answer", f"{asked.kind}: {error!r}")
    finally:
        connection.close()


def _brief(number: int) -> Asked:
    """A request that takes the engine a step or two: each kind in turn, always with the same words,
    so that its prompt stays in the KV cache."""
    kind = number % len(_KINDS)
    asked = request(Random(kind), _KINDS[kind : kind + 1])
    if asked.kind == "bad":
        return asked
    body = json.loads(asked.body)
    if "max_tokens" in body:
        body["max_tokens"] = 1
    return replace(asked, body=json.dumps(body).encode())


def _leave(connection: http.client.HTTPConnection, asked: Asked, random: Random) -> None:
    """Goes in the middle of sending, of waiting, or of reading."""
    head = (
        f"POST {asked.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(asked.body)}\r\n\r\n"
    ).encode()
    whole = head + asked.body
    connection.connect()
    way = random.randrange(3)
    connection.sock.sendall(whole[: random.randrange(len(whole))] if way == 0 else whole)
    if way == 1:
        time.sleep(random.random() * 0.5)
    elif way == 2:
        with contextlib.suppress(OSError):
            connection.sock.settimeout(random.random() * 2)
            connection.sock.recv(random.choice((1, 100, 10_000)))


def _fill(server: RealServer, port: int, n_clients: int, seed: int, progress: bool) -> Outcomes:
    """What a server comes to in days and an hour does not bring it to: the allocator's caches are
    filled by many quick and brief requests, and the model file's pages by prompts with tokens of
    the whole vocabulary."""
    outcomes = Outcomes()
    most = QUICK_REQUESTS + BRIEF_REQUESTS
    with tqdm(total=most, unit="request", disable=not progress) as bar:

        def client(number: int) -> None:
            random = Random(f"{seed}/{number}/quick")
            while (done := outcomes.total()) < most and not outcomes.wrong:
                asked = request(random, _QUICK) if done < QUICK_REQUESTS else _brief(done)
                _ask(port, asked, random, outcomes, aborted=0.0)
                bar.update(done - bar.n)

        threads = [threading.Thread(target=client, args=(i,)) for i in range(n_clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    pieces = _vocabulary(port)
    for at in range(0, len(pieces), TOKENS_AT_ONCE):
        server.client.chat("\n".join(pieces[at : at + TOKENS_AT_ONCE]), max_tokens=1)
    return outcomes


def _vocabulary(port: int) -> list[str]:
    """The text of every eighth token."""
    pieces: list[str] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    with contextlib.closing(connection):
        while True:
            body = json.dumps({"tokens": [TOKEN_STEP * len(pieces)]})
            connection.request("POST", "/v1/detokenize", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status != 200:
                return pieces
            pieces.append(answer["text"])


# --- measures -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """Both processes at a moment: seconds since the start, bytes of memory, open descriptors."""

    at: float
    rss: tuple[int, int]
    fds: tuple[int, int]


def sample(pids: tuple[int, int], began: float) -> Sample:
    def rss(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE

    def fds(pid: int) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    server, engine = pids
    at = time.monotonic() - began
    return Sample(at, (rss(server), rss(engine)), (fds(server), fds(engine)))


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line's slope with its standard error, in MiB an hour."""

    value: float
    error: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "no slope yet"
        return f"{self.value:+.2f} ± {self.error:.2f} MiB/h"


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Of bytes over seconds, by least squares. Memory grows in steps, so neighbours are alike: the
    error is that of as many points as are independent, by their correlation."""
    n = len(points)
    if n < LEAST_POINTS:
        return Slope(math.nan, math.nan)
    mean_x = sum(x for x, _ in points) / n
    mean_y = sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    value = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = [y - mean_y - value * (x - mean_x) for x, y in points]
    squares = sum(r * r for r in rest)
    if squares == 0.0:
        return Slope(value * 3600 / _MIB, 0.0)
    alike = sum(a * b for a, b in itertools.pairwise(rest)) / squares
    alike = min(max(alike, 0.0), 1 - 1 / n)
    n_free = max(n * (1 - alike) / (1 + alike), 3.0)
    error = math.sqrt(squares / (n_free - 2) / spread)
    return Slope(value * 3600 / _MIB, error * 3600 / _MIB)


@dataclass(frozen=True)
class Result:
    """What a run has seen. `problems` are the limits that it is over, as sentences."""

    minutes: float
    outcomes: Counter[tuple[str, str]]
    slopes: tuple[Slope, Slope]
    both: Slope
    rss: tuple[int, int]
    fds: tuple[int, int]
    idle: Json
    restarts: int
    problems: list[str]

    def table(self) -> str:
        kinds = sorted({kind for kind, _ in self.outcomes})
        ends = sorted({end for _, end in self.outcomes})
        lines = ["{:<12}".format("requests") + "".join(f"{end:>10}" for end in ends)]
        lines += [
            f"{kind:<12}" + "".join(f"{self.outcomes[kind, end] or '':>10}" for end in ends)
            for kind in kinds
        ]
        totals = (sum(n for (_, e), n in self.outcomes.items() if e == end) for end in ends)
        lines += ["{:<12}".format("all") + "".join(f"{total:>10}" for total in totals), ""]
        for name, found, rss, fds in zip(
            ("server", "engine"), self.slopes, self.rss, self.fds, strict=True
        ):
            lines.append(f"{name:<8} {rss / _MIB:8.1f} MiB, {found}, descriptors {fds:+d}")
        lines.append(f"{'both':<8} {sum(self.rss) / _MIB:8.1f} MiB, {self.both}")
        lines.append("idle: " + ", ".join(f"{key} {value}" for key, value in self.idle.items()))
        lines += [f"over the limit: {problem}" for problem in self.problems]
        return "\n".join(lines)

    def json(self) -> str:
        ends: Counter[str] = Counter()
        for (_, end), n in self.outcomes.items():
            ends[end] += n
        return json.dumps(
            {
                "minutes": round(self.minutes, 2),
                "requests": sum(ends.values()),
                "outcomes": dict(ends),
                "rss_slope_mib_h": None
                if math.isnan(self.both.value)
                else round(self.both.value, 3),
                "rss_slope_error_mib_h": None
                if math.isnan(self.both.error)
                else round(self.both.error, 3),
                "rss_mib": round(sum(self.rss) / _MIB, 1),
                "fds": self.fds,
                "idle": self.idle,
                "engine_restarts": self.restarts,
                "problems": self.problems,
            }
        )


def soak(
    model: Path,
    minutes: float,
    n_clients: int = 6,
    seed: int = 0,
    progress: bool = False,
    least: int = 0,
) -> Result:
    """Runs the traffic for so long, and until `least` requests have ended; then waits until the
    server is idle, and judges."""
    outcomes = Outcomes()
    over = threading.Event()
    samples: list[Sample] = []
    with RealServer(model, context_size=2048, drain_timeout=1) as server:
        server.wait_for_state("ready", 600)
        port = int(server.url.rpartition(":")[2])
        pids = server.process.pid, server.engine_pid()
        if minutes >= FILLED_FROM_MIN:
            outcomes.wrong.extend(_fill(server, port, n_clients, seed, progress).wrong)

        def client(number: int) -> None:
            random = Random(f"{seed}/{number}")
            while not over.is_set():
                _ask(port, request(random), random, outcomes)

        threads = [
            threading.Thread(target=client, args=(i,), daemon=True) for i in range(n_clients)
        ]
        began = time.monotonic()
        end = began + 60 * minutes
        idle_fds = sample(pids, began).fds
        with tqdm(total=round(60 * minutes), unit="s", disable=not progress) as bar:
            for thread in threads:
                thread.start()
            try:
                while (
                    time.monotonic() < end or outcomes.total() < least
                ) and server.process.poll() is None:
                    samples.append(sample(pids, began))
                    bar.set_postfix(requests=outcomes.total(), wrong=len(outcomes.wrong))
                    bar.update(round(samples[-1].at) - bar.n)
                    left = end - time.monotonic()
                    time.sleep(min(SAMPLE_S, left) if left > 0 else SAMPLE_S)
            except FileNotFoundError:
                pass  # a process died, which the restarts below tell
            finally:
                over.set()
        for thread in threads:
            thread.join(WAIT_S)
        ended = time.monotonic() - began
        with contextlib.suppress(AssertionError):
            until(lambda: _at_rest(server.health()), 60)
        health = server.health()
        restarts = health["engine_restarts"]
        rest = sample(pids, began) if not restarts else samples[-1]
    return _judged(ended / 60, outcomes, samples, rest, idle_fds, health)


def _at_rest(health: Json) -> bool:
    return not health["active_requests"] and not health.get("kv_cells_used")


def _judged(
    minutes: float,
    outcomes: Outcomes,
    samples: list[Sample],
    rest: Sample,
    idle_fds: tuple[int, int],
    health: Json,
) -> Result:
    part = WARM_UP * samples[-1].at
    warm = [one for one in samples if one.at >= max(part, LEAST_WARM_UP_S)]
    of_server = slope([(one.at, one.rss[0]) for one in warm])
    of_engine = slope([(one.at, one.rss[1]) for one in warm])
    both = slope([(one.at, sum(one.rss)) for one in warm])
    fds = rest.fds[0] - idle_fds[0], rest.fds[1] - idle_fds[1]
    keys = ("active_requests", "queued", "kv_cells_used", "kv_cells_cached")
    idle = {key: health[key] for key in keys if health.get(key) is not None}
    problems = list(outcomes.wrong)
    sure = both.value if minutes >= SURE_AFTER_MIN else both.value - 2 * both.error
    grown = sum(rest.rss) - next(sum(one.rss) for one in samples if one.at >= part)
    if grown > MOST_GROWTH:
        problems.append(f"memory grew by {grown >> 20} MiB, the limit is {MOST_GROWTH >> 20}")
    if sure >= MOST_SLOPE:
        problems.append(f"memory grows by {both}, the limit is {MOST_SLOPE:g}")
    problems += [
        f"the {name} has {change:+d} descriptors"
        for name, change in zip(("server", "engine"), fds, strict=True)
        if abs(change) > MOST_FDS
    ]
    problems += [
        f"{key} is {idle[key]} when idle"
        for key in ("active_requests", "queued", "kv_cells_used")
        if idle.get(key)
    ]
    restarts = health["engine_restarts"]
    if restarts:
        problems.append(f"the engine was started again {restarts} times: {health['reason']}")
    return Result(
        minutes,
        outcomes.counts,
        (of_server, of_engine),
        both,
        rest.rss,
        fds,
        idle,
        restarts,
        problems,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--model", type=Path, default=models.SMOLLM2)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = soak(
        options.model, options.minutes, options.clients, options.seed, sys.stderr.isatty()
    )
    print(result.table())
    print(result.json())
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
