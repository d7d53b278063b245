"""Real processes with real models; the library with hooks is in the build folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.robustness.faults.report import TORTURE
from tests.support import models

HOOKS = Path(__file__).parent / "hooks"
VARIABLE = "SHEILY_HOOKS_LIBRARY"
_TORTURE_S = 6 * 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if TORTURE:
                item.add_marker(pytest.mark.timeout(_TORTURE_S))


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Servers that are started now can be told to abort, or to hang, by environment variables."""
    default = next((models.ROOT / "build" / "editable" / "hooks").glob("_native*.so"), None)
    library = os.environ.get(VARIABLE, default)
    if library is None:
        pytest.skip("no library with hooks: cmake --build build/editable --target _native_hooks")
    monkeypatch.setenv(VARIABLE, str(Path(library).absolute()))
    paths = [str(HOOKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return monkeypatch
