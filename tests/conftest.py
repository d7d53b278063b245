"""Settings of every test, and what must not be left when all are done."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import processes

# A timing never decides a test: machines are busy and differ.
settings.register_profile("sheily", deadline=None)
settings.load_profile("sheily")

HERE = Path(__file__).parent
GONE_S = 30.0

# What tests import has asserts too; as pytest writes them, `python -O` runs them all the same.
pytest.register_assert_rewrite(
    *(
        ".".join(path.relative_to(HERE.parent).with_suffix("").parts)
        for path in sorted(HERE.rglob("*.py"))
        if path.stem not in ("conftest", "sanitized", "processes")
        and not path.stem.startswith(("test_", "__"))
    )
)


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """After the last test, every process that the tests have started is gone."""
    run = f"{os.getpid()}-{uuid.uuid4().hex}"
    os.environ[processes.VARIABLE] = run
    yield
    end = time.monotonic() + GONE_S  # those that were killed are not gone at once
    while left := _seen(run):
        if time.monotonic() > end:
            processes.kill(left)
            pytest.fail(f"the tests left processes behind: {processes.described(left)}")


def _seen(run: str) -> dict[int, str]:
    """In two looks: a process that is becoming another program has no environment for a moment."""
    first = processes.of(run)
    time.sleep(0.1)
    return first | processes.of(run)
