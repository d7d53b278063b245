"""A scripted server, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sheily_server.client import LLMClient
from tests.support.fake_server import WAIT, FakeServer, running


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running() as started:
        yield started


@pytest.fixture
def client(server: FakeServer) -> Iterator[LLMClient]:
    with LLMClient(server.url, timeout=WAIT) as opened:
        yield opened
