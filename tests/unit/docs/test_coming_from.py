"""What the page for people from other servers says of llama-server and of this one exists."""

from __future__ import annotations

import re

import pytest

from sheily_server.api.routes import ROUTES
from tests.support.markdown import ROOT, section, whole

PAGE = "docs/coming-from.md"
LLAMA_SERVER = ROOT / "vendor" / "llama.cpp" / "tools" / "server" / "README.md"
BUILT_FROM = r"llama\.cpp b(\d+)"


def test_the_pin_is_the_one_that_is_compared() -> None:
    [named] = re.findall(BUILT_FROM, whole(PAGE))
    assert f'version = "{named}.' in whole("vendor/llama.cpp.toml")


@pytest.mark.skipif(not LLAMA_SERVER.is_file(), reason="llama.cpp's source is not unpacked")
def test_the_options_and_endpoints_are_llama_server_s() -> None:
    known = LLAMA_SERVER.read_text(encoding="utf-8")
    rows = section(PAGE, "From llama-server").entries
    assert len(rows) > 25
    options = [name for row in rows for name in re.findall(r"`(--?[a-z-]+)`", row[0])]
    assert len(options) > 30
    missing = [name for name in options if not re.search(rf"(?<![\w-]){name}(?![\w-])", known)]
    assert not missing
    paths = [name for row in rows for name in re.findall(r"(/[a-z0-9_/{}-]+)", row[0])]
    assert len(paths) > 15
    known += (LLAMA_SERVER.parent / "server.cpp").read_text(encoding="utf-8")
    assert not [path for path in paths if path.split("{")[0].rstrip("/") not in known]


def test_the_endpoints_are_ours() -> None:
    """Those in the column of this server, and those that are said to be the same."""
    ours = {route.path.removeprefix("/v1") for route in ROUTES}
    found = set()
    for title in ("Commands and endpoints", "From llama-server", "From llama-cpp-python"):
        for row in section(PAGE, title).entries:
            cell = row[0] if row[1].startswith("the same") else row[1]
            found |= set(re.findall(r"(?:POST |GET |`)(/[a-z0-9_/-]+)", cell))
    assert len(found) > 10
    assert {path.removeprefix("/v1") for path in found} <= ours
