"""docs/clients.md against what the tests install and run."""

from __future__ import annotations

import json
import re

from tests.support.markdown import section
from tests.support.models import ROOT

PROGRAMS = ROOT / "tests" / "clients" / "programs"
# They come along with others, and people choose them with those.
COMPANIONS = {"llama-index-core", "llama-index-llms-openai", "@langchain/core", "zod"}
ROWS = [
    [cell.replace("`", "") for cell in row] for row in section("docs/clients.md", "Clients").entries
]


def pinned(half: str) -> dict[str, str]:
    """The version of each package that one half installs."""
    requirements = (PROGRAMS / f"requirements-{half}.txt").read_text()
    found = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)$", requirements, re.MULTILINE))
    package = json.loads((PROGRAMS / f"node-{half}" / "package.json").read_text())
    versions: dict[str, str] = package["dependencies"]
    return {name: version for name, version in (found | versions).items() if name not in COMPANIONS}


def test_every_client_with_its_version() -> None:
    for half in ("light", "heavy"):
        listed = {row[0]: row[1] for row in ROWS if row[2] == half}
        assert listed == pinned(half)


def test_every_program_and_no_other() -> None:
    named = {name for row in ROWS for name in row[4].split(", ")}
    helpers = {"providers.mjs"}
    programs = {path.name for path in PROGRAMS.rglob("*.mjs")} - helpers
    programs |= {path.name for path in (PROGRAMS / "python").glob("*.py")} | {"test_agents.py"}
    assert named == programs
