"""Real servers with the tiny model and a cache directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robustness.faults.report import TORTURE

_TORTURE_S = 6 * 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(_TORTURE_S if TORTURE else 600))
