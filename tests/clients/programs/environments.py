"""Where other people's packages are installed: an environment for each list of pinned versions,
made once and kept under the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.models import ROOT

HERE = Path(__file__).parent
KEPT = ROOT / "build" / "clients"
INSTALL_S = 550.0
OLDEST_PYTHON = (3, 11)


def python(half: str) -> Path:
    """The Python that has the packages of one half, `light` or `heavy`. Skips where the pinned
    versions cannot be had."""
    if sys.version_info < OLDEST_PYTHON:
        pytest.skip("the pinned versions need Python 3.11 or newer")
    requirements = HERE / f"requirements-{half}.txt"
    constraints = HERE / f"constraints-{half}.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    state = _state(requirements.read_bytes(), constraints.read_bytes(), version.encode())
    folder = KEPT / f"python-{half}-{state}"
    program = folder / "bin" / "python"
    if not _is_installed(folder):
        _run([sys.executable, "-m", "venv", str(folder)])
        # Most of what is installed is never imported, so nothing is compiled before it is.
        pip = [str(program), "-m", "pip", "install", "--quiet", "--no-compile"]
        pip += ["--disable-pip-version-check"]
        _run([*pip, "--requirement", str(requirements), "--constraint", str(constraints)])
        _mark(folder)
    return program


def node(half: str) -> Path:
    """The folder with one half's packages of npm and its scripts. Skips where there is no npm."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node here: install nodejs and npm to run these programs")
    source = HERE / f"node-{half}"
    files = [source / "package.json", source / "package-lock.json"]
    folder = KEPT / f"node-{half}-{_state(*(file.read_bytes() for file in files))}"
    if not _is_installed(folder):
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        _run([*command, "--no-update-notifier"], cwd=folder)
        _mark(folder)
    for script in source.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


def node_version() -> int:
    """The major version of the Node that is here; 0 without one."""
    if shutil.which("node") is None:
        return 0
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60)
    return int(done.stdout.removeprefix("v").partition(".")[0])


def _state(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _is_installed(folder: Path) -> bool:
    """What an interrupted installation has left is removed."""
    if (folder / "installed").exists():
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _mark(folder: Path) -> None:
    (folder / "installed").touch()


def _run(command: Sequence[str], cwd: Path | None = None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=INSTALL_S
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
