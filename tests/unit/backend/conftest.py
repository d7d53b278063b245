"""Supervisors over fake engines for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sheily_server.backend import deaths
from tests.support.supervising import Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(deaths, "BACKOFF_S", (0.001,) * 5)
    bench = Bench(tmp_path)
    yield bench
    bench.stop()
