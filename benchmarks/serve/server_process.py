"""The server under measure: the real process on a free port, streams from it, and what it uses.

Also the Python of its engine loop, timed without a model.
"""

from __future__ import annotations

import collections
import http.client
import json
import math
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from benchmarks.common.report import BenchmarkError, Memory, Stream, UnusableRoundError
from benchmarks.serve.client import events
from sheily_server.engine.admission import Job
from sheily_server.engine.grammar.follower import Follower
from sheily_server.engine.inbox import Inbox
from sheily_server.engine.kvcache.answers import Answers
from sheily_server.engine.runner import Output, Runner
from sheily_server.engine.scheduling.scheduler import Plan, Scheduler
from sheily_server.engine.scheduling.sequence import Sequence as TokenSequence
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.engine.vitals import Vitals
from sheily_server.engine.worker import Engine
from sheily_server.protocol.channel import Channel
from sheily_server.protocol.messages import Sampling, Submit

HOST = "127.0.0.1"
_REQUEST_TIMEOUT_S = 3600
_CONNECT_TIMEOUT_S = 30
_POLL_S = 0.1
_LISTENING = re.compile(r"listening on http://[^ ]*:(\d+)$")
_SPEED = re.compile(r" speed=([\d.]+)tok/s")


class ServerProcess:
    """`python -m sheily_server` for as long as the `with` block lasts."""

    def __init__(
        self, model: Path, *, context_size: int, max_tokens: int, parallel: int, threads: int
    ) -> None:
        """Returns once the model is loaded. Raises BenchmarkError when it cannot be."""
        flags = {
            "model-path": model,
            "port": 0,
            "host": HOST,
            "context-size": context_size,
            "max-tokens": max_tokens,
            "parallel": parallel,
            "threads": threads,
            "timeout": _REQUEST_TIMEOUT_S,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sheily_server"]
            + [f"--{name}={value}" for name, value in flags.items()],
            env={name: value for name, value in os.environ.items() if name[:4] != "LLM_"},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._port: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._last_lines: collections.deque[str] = collections.deque(maxlen=5)
        self.logged_speeds: list[float] = []
        """Tokens a second of each answer, as the server's log has them."""
        stderr = self._process.stderr
        assert stderr is not None
        self._reader = threading.Thread(target=self._read_log, args=(stderr,), daemon=True)
        self._reader.start()
        try:
            port = self._port.get()
            if port is None:
                raise self._failure()
            self._address = (HOST, port)
            self._await_ready()
            engine = _child(self._process.pid)
        except BaseException:
            self.close()
            raise
        self.pids = {"server process": self._process.pid, "engine process": engine}

    def run(self, messages: Sequence[str], n_tokens: int) -> list[Stream]:
        """Greedy answers of `n_tokens` tokens to all the messages at once, in their order.

        Raises UnusableRoundError when an answer ended early, BenchmarkError when one failed.
        """
        start = threading.Barrier(len(messages), timeout=_CONNECT_TIMEOUT_S)
        with ThreadPoolExecutor(len(messages)) as pool:
            answers = [pool.submit(self._answer, message, n_tokens, start) for message in messages]
            return [answer.result() for answer in answers]

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read_log(self, stderr: IO[bytes]) -> None:
        for raw in stderr:
            line = raw.decode("utf-8", "replace").rstrip()
            self._last_lines.append(line)
            if found := _LISTENING.search(line):
                self._port.put(int(found[1]))
            if found := _SPEED.search(line):
                self.logged_speeds.append(float(found[1]))
        self._port.put(None)

    def _failure(self) -> BenchmarkError:
        return BenchmarkError("the server did not start; its log ends: " + _tail(self._last_lines))

    def _await_ready(self) -> None:
        while self._process.poll() is None:
            connection = http.client.HTTPConnection(*self._address, timeout=10)
            connection.request("GET", "/health")
            health = json.load(connection.getresponse())
            connection.close()
            if health["state"] == "ready":
                return
            if health["state"] == "failed":
                raise BenchmarkError(f"the server says: {health['reason']}")
            time.sleep(_POLL_S)
        raise self._failure()

    def _answer(self, message: str, n_tokens: int, start: threading.Barrier) -> Stream:
        body = {
            "messages": [{"role": "user", "content": message}],
            "temperature": 0,
            "max_tokens": n_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        connection = http.client.HTTPConnection(*self._address, timeout=_REQUEST_TIMEOUT_S)
        try:
            connection.connect()
            start.wait()
            sent = time.monotonic()
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            arrivals = []
            # Kept as bytes: parsing would take time from the server on a small machine.
            while data := response.read1(1 << 16):
                arrivals.append((time.monotonic(), data))
        except (OSError, http.client.HTTPException, threading.BrokenBarrierError) as error:
            raise BenchmarkError(f"a request failed: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200:
            body_text = b"".join(data for _, data in arrivals).decode("utf-8", "replace")
            raise BenchmarkError(f"the server answered {response.status}: {body_text}")
        return _stream(sent, arrivals, n_tokens)


def _stream(sent: float, arrivals: Iterable[tuple[float, bytes]], n_tokens: int) -> Stream:
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


def memory(pid: int) -> Memory:
    """Of a running process; None for what this system does not tell."""
    status = _sizes(Path(f"/proc/{pid}/status"))
    rollup = _sizes(Path(f"/proc/{pid}/smaps_rollup"))
    return Memory(status.get("VmRSS"), status.get("VmHWM"), rollup.get("Pss"))


def cpu_s(pid: int) -> float:
    """CPU seconds that all threads of a running process have used, to 0.01 s.

    From /proc/PID/stat (proc_pid_stat(5): fields 14 and 15, after a name in parentheses).
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_cpu_s() -> float:
    """CPU seconds that this machine's cores were not idle since it started, those that a
    hypervisor gave to other machines among them. From the first line of /proc/stat (proc_stat(5)).
    """
    user, nice, system, _, _, irq, softirq, stolen, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")


def _sizes(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    found = (re.fullmatch(r"(\w+):\s+(\d+) kB", line) for line in lines)
    return {match[1]: 1024 * int(match[2]) for match in found if match}


def _child(parent: int) -> int:
    """The server's only child, which is the engine. Raises BenchmarkError without /proc."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            return int(path.parent.name)
    raise BenchmarkError("the engine process was not found: this benchmark needs Linux's /proc")


def _tail(lines: Iterable[str]) -> str:
    return " | ".join(lines) or "(empty)"


def engine_python_s(n_sequences: int, n_steps: int = 2000) -> float:
    """Seconds of Python in one step of the engine, beside the call of `Context.step`.

    The real loop, scheduler, text decoding and messages; a stand-in for model and tokenizer.
    """
    ours, theirs = socket.socketpair()
    inbox: Inbox = queue.SimpleQueue()
    with ours, theirs:
        for i in range(n_sequences):
            inbox.put(_job(i, n_steps + 10))
        runner = _StandInRunner(ours, n_steps)
        scheduler = Scheduler(n_sequences, n_steps + 20, n_sequences)
        engine = Engine(
            Channel(theirs),
            _StandInTokenizer(),
            runner,
            scheduler,
            Answers(1000),
            None,
            inbox,
            Vitals(),
        )
        try:
            engine.run()
        except _EnoughError:
            return (runner.last - runner.first) / n_steps
    raise AssertionError("the engine's loop ends with an error alone")


class _EnoughError(Exception):
    pass


class _StandInTokenizer(Tokenizer):
    def __init__(self) -> None:
        self.ends = frozenset()

    def piece(self, token: int) -> bytes:
        return b" word"

    def is_end(self, token: int) -> bool:
        return False


class _StandInRunner(Runner):
    """Gives tokens at once, of which none comes twice, and takes the events out of the socket."""

    def __init__(self, events: socket.socket, n_steps: int) -> None:
        self._received = events
        self._received.setblocking(False)
        self._left = n_steps
        self.first = self.last = 0.0

    def start(
        self,
        id: int,
        sampling: Sampling,
        prompt: Sequence[int],
        follower: Follower | None,
        top_logprobs: int | None,
    ) -> None:
        pass

    def step(self, plan: Plan) -> list[list[Output]]:
        if any(not work.sequence.decoding for work in plan.work):
            return [[Output(7)] if work.samples else [] for work in plan.work]
        if self.first:
            self._received.recv(1 << 16)
        self.last = time.monotonic()
        self.first = self.first or self.last
        if not self._left:
            raise _EnoughError
        self._left -= 1
        return [[Output(self._left)]] * len(plan.work)


def _job(id: int, n_tokens: int) -> Job:
    submit = Submit(id, [], Sampling(), n_tokens, n_tokens, [], math.inf)
    return Job(submit, [TokenSequence(0, [1, 2, 3], n_tokens)], prediction=())
