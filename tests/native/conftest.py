"""Models shared by the native tests; each is loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sheily_native import Model
from tests.support import models


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.native)


@pytest.fixture(scope="session")
def vocabulary() -> Iterator[Model]:
    """The Llama 3 vocabulary without weights."""
    with Model(models.VOCABULARY, vocab_only=True) as model:
        yield model


@pytest.fixture(scope="session")
def tiny() -> Iterator[Model]:
    """A tiny Llama 3 with random weights."""
    with Model(models.tiny_llama3()) as model:
        yield model


@pytest.fixture(scope="session")
def smollm2() -> Iterator[Model]:
    """The small real model."""
    with Model(models.smollm2()) as model:
        yield model
