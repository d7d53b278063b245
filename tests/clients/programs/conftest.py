"""Servers for other people's programs, each with an API key: one with a real model, one whose model
does as it was told, and one with room for the prompts of coding agents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sheily_server.config import Config
from tests.clients.programs.running import KEY, Served
from tests.support import models
from tests.support.models import EMPTY_GGUF
from tests.support.real_server import RealServer
from tests.support.serving import Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.programs)


def served(server: RealServer, model: Path) -> Served:
    server.wait_for_state("ready")
    return Served(base_url=f"{server.url}/v1", model=model.stem)


@pytest.fixture(scope="session")
def smollm2() -> Iterator[Served]:
    """SmolLM2 with the server's own settings, but for the size of its context."""
    model = models.smollm2()
    with RealServer(model, context_size=2048, api_key=KEY) as server:
        yield served(server, model)


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The fake engine with Llama 3's prompts: `steps 12 next_step` makes a loop of twelve calls."""
    folder = tmp_path_factory.mktemp("scripted")
    model = folder / "scripted.gguf"
    model.write_bytes(EMPTY_GGUF)
    config = Config(model_path=model, port=0, api_key=(KEY,))
    server = Server(config, folder / "engine.log", "--dialect", "llama3")
    try:
        server.wait_for("ready")
        yield Served(base_url=f"{server.url}/v1", model=model.stem)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def roomy() -> Iterator[RealServer]:
    """Llama 3's prompts with random weights, and a context for long prompts; its answers are cut
    off early."""
    with RealServer(
        models.tiny_llama3(), context_size=32768, parallel=2, max_tokens=48, api_key=KEY
    ) as server:
        server.wait_for_state("ready")
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home for a program."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder
