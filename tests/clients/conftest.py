"""Real servers for the clients of others: one with real words, one that knows tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import models
from tests.support.real_server import RealServer

# Three requests at once and a queue that nothing here fills.
SETTINGS = {"context_size": 1024, "parallel": 3, "queue": 64}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def words() -> Iterator[RealServer]:
    """SmolLM2: weak, but its words are words. ChatML, so no tools."""
    with RealServer(models.smollm2(), **SETTINGS) as server:
        server.wait_for_state("ready")
        yield server


@pytest.fixture(scope="session")
def tools() -> Iterator[RealServer]:
    """Llama 3's prompts with random weights: what it says is noise, unless a schema binds it."""
    with RealServer(models.tiny_llama3(), **SETTINGS) as server:
        server.wait_for_state("ready")
        yield server
