"""The npm packages `openai` and `@anthropic-ai/sdk` under Node, by the scripts in `node/`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.models import ROOT
from tests.support.real_server import RealServer

SCRIPT = Path(__file__).with_name("node")
FILES = ("package.json", "package-lock.json")
CHECKS = {"check.mjs": 10, "anthropic.mjs": 7}
"""How many checks a script has at least."""


@pytest.fixture(scope="module")
def project() -> Path:
    """A folder with the scripts and their packages, installed once for each state of the lock."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node here: install nodejs and npm to run these checks")
    state = hashlib.sha256(b"".join((SCRIPT / name).read_bytes() for name in FILES)).hexdigest()
    folder = ROOT / "build" / "node-clients" / state[:16]
    folder.mkdir(parents=True, exist_ok=True)
    installed = folder / "installed"
    if not installed.exists():
        for name in FILES:
            shutil.copy(SCRIPT / name, folder)
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        installed.touch()
    for script in SCRIPT.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


@pytest.mark.parametrize("script", CHECKS)
def test_the_node_clients(project: Path, words: RealServer, tools: RealServer, script: str) -> None:
    done = subprocess.run(
        ["node", script, words.url, tools.url],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == done.stdout.count("\n") >= CHECKS[script]


@pytest.mark.parametrize(
    "lock", sorted(SCRIPT.parent.rglob("package-lock.json")), ids=lambda path: path.parent.name
)
def test_a_lock_file_names_no_registry(lock: Path) -> None:
    text = lock.read_text()
    assert '"resolved"' not in text
    assert text.count('"integrity"') >= 2
