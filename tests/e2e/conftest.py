"""Real servers with real models, started once for all tests that do not break them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.support import models
from tests.support.real_server import RealServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def smollm2_server() -> Iterator[RealServer]:
    with RealServer(models.smollm2(), context_size=2048) as server:
        server.wait_for_state("ready")
        yield server


@pytest.fixture(scope="session")
def llama3_server() -> Iterator[RealServer]:
    with RealServer(models.tiny_llama3(), context_size=1024, max_history=4) as server:
        server.wait_for_state("ready")
        yield server


@pytest.fixture
def openai_client(smollm2_server: RealServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{smollm2_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client
