"""SECURITY.md against the tests that it names."""

from __future__ import annotations

import re

import pytest

from sheily_server.web import listener as listener_module
from sheily_server.web import server as http_server
from sheily_server.web.app import MAX_BODY_BYTES
from tests.support.models import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
HARDENING = "tests/server/test_hardening.py"


def named(path: str) -> set[str]:
    """The tests in a file that the document names."""
    if path == HARDENING:
        return set(re.findall(r"`(test_\w+)`", TEXT))
    return set(re.findall(rf"`{re.escape(path)}::(\w+)`", TEXT))


@pytest.mark.parametrize("path", sorted({HARDENING, *re.findall(r"`(tests/[\w/]+\.py)", TEXT)}))
def test_what_is_named_exists(path: str) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    found = set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    assert named(path) <= found


def test_every_row_has_a_test() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", TEXT, re.MULTILINE)[1:]
    assert len(rows) > 20
    assert all("test_" in tests for _threat, _behaviour, tests in rows)


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"above {MAX_BODY_BYTES // 2**20} MiB" in TEXT
    assert f"cut off at {4 * MAX_BODY_BYTES // 2**20} MiB" in TEXT
    assert f"{listener_module.REQUEST_S:g} s after its first byte" in TEXT
    assert f"unread for {listener_module.IDLE_S:g} s" in TEXT
    assert f"after {listener_module.CROWDED_S:g} s where" in TEXT
    assert f"There are {http_server.CONNECTIONS}." in TEXT
