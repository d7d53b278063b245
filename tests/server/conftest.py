"""Servers for the tests of this folder: one that all of a file's tests share, or one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sheily_server.backend import deaths
from sheily_server.config import Config
from tests.support.models import EMPTY_GGUF
from tests.support.program import Program
from tests.support.serving import Server

Serve = Callable[..., Server]
Start = Callable[..., Program]


def make(folder: Path, *arguments: str, **settings: Any) -> Server:
    model = folder / "fake-model.gguf"
    if not settings.pop("missing", False):
        model.write_bytes(EMPTY_GGUF)
    defaults: dict[str, Any] = {"model_path": model, "context_size": 256, "max_tokens": 100}
    defaults["port"] = 0
    return Server(Config(**(defaults | settings)), folder / "engine.log", *arguments)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is ready. Tests that share it leave it as they found it."""
    server = make(tmp_path_factory.mktemp("server"))
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server of the test's own: `serve(*engine arguments, **settings)`.

    `missing=True` leaves the model's file out. A crashed engine is restarted almost at once.
    """
    monkeypatch.setattr(deaths, "BACKOFF_S", (0.001,) * 5)
    started: list[Server] = []

    def start(*arguments: str, **settings: Any) -> Server:
        started.append(make(tmp_path, *arguments, **settings))
        return started[-1]

    with stopping(started):
        yield start


@contextmanager
def stopping(servers: list[Server]) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the server as a process: `start(*arguments, **variables)`."""
    started: list[Program] = []

    def start(*arguments: str, **more: Any) -> Program:
        started.append(Program(tmp_path, *arguments, **more))
        return started[-1]

    yield start
    for program in started:
        program.kill()
