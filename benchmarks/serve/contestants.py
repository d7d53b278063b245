"""The servers that `benchmarks.serve` compares: how each is started, what it is told beside the
usual fields, and a process that is gone when its `with` block ends. Knows nothing of scenarios."""

from __future__ import annotations

import dataclasses
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.common.report import BenchmarkError, Memory
from benchmarks.common.usage import memory
from benchmarks.serve.client import Address
from benchmarks.serve.report import LLAMA_CPP_PYTHON, LLAMA_SERVER, NAMES, OURS, OURS_PLAIN
from sheily_server.config import Config
from tools.server_process import ServerProcess, ServerProcessError, environment

HOST = "127.0.0.1"
SPECULATION = "speculation"
START_S = 600.0
_STOP_S = 15.0
_REQUEST_TIMEOUT_S = 3600
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


def ours(load: Load, speculation: bool | None = None, max_tokens: int | None = None) -> Recipe:
    """Our server; `speculation` None leaves that setting as it is, `max_tokens` None allows answers
    of half a context. A queue for everyone, as the others have it."""
    flags: dict[str, object] = {
        "model-path": load.model,
        "context-size": load.context_size,
        "max-tokens": max_tokens or load.context_size // 2,
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


def ours_with(model: Path, **settings: object) -> Recipe:
    """Our server with these settings, and the defaults of all others but the time limit, which a
    slow machine would reach."""
    flags = {"model-path": model, "timeout": _REQUEST_TIMEOUT_S, **settings}
    words = _flags({name.replace("_", "-"): value for name, value in flags.items()})
    return Recipe(OURS, (sys.executable, "-m", "sheily_server", *words), extra=IGNORE_EOS)


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


class Server(ServerProcess):
    """A contestant's process, in a session of its own: Ctrl-C is for the benchmark alone, which
    then ends all of them."""

    def __init__(self, recipe: Recipe) -> None:
        """Returns once the model is loaded. Raises BenchmarkError when it cannot be."""
        self.recipe = recipe
        self.address: Address = (HOST, _free_port())
        flags = _flags({"host": HOST, "port": self.address[1]})
        command = [*recipe.command, *flags]
        try:
            super().__init__(command, env=environment(*_SETTINGS), own_session=True)
        except ServerProcessError as error:
            raise BenchmarkError(f"{recipe.command[0]} {error}") from error
        try:
            self.wait_until_ready(*self.address, recipe.health, START_S)
        except ServerProcessError as error:
            self.stop()
            raise self.failure(str(error)) from error
        except BaseException:
            self.stop()
            raise

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
        lines = [line.strip() for line in self.log.split("\n") if line.strip()]
        end = " | ".join(lines[-_LOG_LINES:]) or "(empty)"
        return BenchmarkError(f"{NAMES[self.recipe.name]} {problem}; its log ends: {end}")

    def stop(self, seconds: float = _STOP_S) -> int:
        """Ends the process, politely at first; nothing of it is left."""
        try:
            return super().stop(seconds)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL


def _flags(values: Mapping[str, object]) -> list[str]:
    """Each as two words: llama-server knows no `--name=value`."""
    return [str(part) for name, value in values.items() for part in (f"--{name}", value)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
