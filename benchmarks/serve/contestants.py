"""The servers that `benchmarks.serve` compares: how each is started, what it is told beside the
usual fields, and a process that is gone when its `with` block ends. Knows nothing of scenarios."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from benchmarks.common.report import BenchmarkError, Memory
from benchmarks.serve.client import Address
from benchmarks.serve.report import LLAMA_CPP_PYTHON, LLAMA_SERVER, NAMES, OURS, OURS_PLAIN
from benchmarks.serve.server_process import memory
from sheily_server.config import Config

HOST = "127.0.0.1"
SPECULATION = "speculation"
START_S = 600.0
_STOP_S = 15.0
_POLL_S = 0.1
_REQUEST_TIMEOUT_S = 3600
_LOG_BYTES = 4000
_LOG_LINES = 5
_SETTINGS = ("LLM_", "LLAMA_ARG_")
"""What the names of environment variables begin with that would change a contestant."""

IGNORE_EOS: Mapping[str, Any] = MappingProxyType({"ignore_eos": True})


@dataclass(frozen=True, slots=True)
class Load:
    """What every contestant gets: the file, tokens of a stream, streams at once, threads."""

    model: Path
    context_size: int
    parallel: int
    threads: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a contestant is started. `extra` are fields for each request to it; `health` answers 200
    once it is ready; `side_by_side` says whether it runs several streams at the same time."""

    name: str
    command: tuple[str, ...]
    health: str = "/health"
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    side_by_side: bool = True


def has_speculation() -> bool:
    """Whether our server's speculation can be switched."""
    return any(setting.name == SPECULATION for setting in dataclasses.fields(Config))


def ours(load: Load, speculation: bool | None = None) -> Recipe:
    """Our server; `speculation` None leaves that setting as it is. A queue for everyone, as the
    others have it."""
    flags: dict[str, object] = {
        "model-path": load.model,
        "context-size": load.context_size,
        "max-tokens": load.context_size // 2,
        "parallel": load.parallel,
        "queue": 400,
        "threads": load.threads,
        "timeout": _REQUEST_TIMEOUT_S,
    }
    if speculation is not None:
        flags[SPECULATION] = "on" if speculation else "off"
    name = OURS_PLAIN if speculation is False else OURS
    command = (sys.executable, "-m", "sheily_server", *_flags(flags))
    return Recipe(name, command, extra=IGNORE_EOS)


def llama_server(program: Path, load: Load) -> Recipe:
    """llama.cpp's server with as many slots as ours has; all else is its default: the template of
    the file, mmap, a KV cache that is divided among the slots, prompts of idle slots kept."""
    flags = {
        "model": load.model,
        "ctx-size": load.parallel * load.context_size,
        "parallel": load.parallel,
        "threads": load.threads,
        "timeout": _REQUEST_TIMEOUT_S,
    }
    command = (str(program), "--jinja", "--no-ui", *_flags(flags))
    return Recipe(LLAMA_SERVER, command, extra=IGNORE_EOS)


def llama_cpp_python(python: Path, load: Load) -> Recipe:
    """It has one context and answers one request at a time; it does not know `ignore_eos`, so that
    its answers may be shorter. By default a new request would end the answer on its way."""
    flags = {
        "model": load.model,
        "n_ctx": load.context_size,
        "n_threads": load.threads,
        "n_threads_batch": load.threads,
        "interrupt_requests": False,
    }
    command = (str(python), "-m", "llama_cpp.server", *_flags(flags))
    return Recipe(LLAMA_CPP_PYTHON, command, health="/v1/models", side_by_side=False)


class Server:
    """A contestant's process for as long as the `with` block lasts."""

    def __init__(self, recipe: Recipe) -> None:
        """Returns once the model is loaded. Raises BenchmarkError when it cannot be."""
        self.recipe = recipe
        self.address: Address = (HOST, _free_port())
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed with the process
        flags = _flags({"host": HOST, "port": self.address[1]})
        try:
            self._process = subprocess.Popen(
                [*recipe.command, *flags],
                env={k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the benchmark, which then ends all of them
            )
        except OSError as error:
            self._log.close()
            raise BenchmarkError(f"{recipe.command[0]} cannot be run: {error.strerror}") from error
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Its process and all that came of it."""
        return [self._process.pid, *descendants(self._process.pid)]

    def memory(self) -> Memory:
        """The sum over its processes."""
        found = [memory(pid) for pid in self.pids]
        return Memory(
            rss=sum(one.rss or 0 for one in found),
            peak_rss=sum(one.peak_rss or 0 for one in found),
            pss=sum(one.pss or 0 for one in found),
        )

    def failure(self, problem: str) -> BenchmarkError:
        """An error with the last lines of the log."""
        return BenchmarkError(f"{NAMES[self.recipe.name]} {problem}; its log ends: {self._tail()}")

    def close(self) -> None:
        """Ends the process, politely at first; nothing of it is left."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._log.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _await_ready(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise self.failure("did not start")
            if self._is_ready():
                return
            time.sleep(_POLL_S)
        raise self.failure(f"was not ready after {START_S:.0f} s")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request("GET", self.recipe.health)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        with contextlib.suppress(ValueError, AttributeError):
            health = json.loads(body)
            if health.get("state") == "failed":
                raise self.failure(f"says: {health['reason']}")
        return response.status == 200

    def _tail(self) -> str:
        log = self._log.fileno()
        # Read in place: where the file stands is where the process writes.
        end = os.pread(log, _LOG_BYTES, max(0, os.fstat(log).st_size - _LOG_BYTES))
        text = end.decode("utf-8", "replace")
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        return " | ".join(lines[-_LOG_LINES:]) or "(empty)"


def _flags(values: Mapping[str, object]) -> list[str]:
    """Each as two words: llama-server knows no `--name=value`."""
    return [str(part) for name, value in values.items() for part in (f"--{name}", value)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    """All processes that came of one, whichever of its threads started them. Linux alone."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in path.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found
