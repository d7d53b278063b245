"""Commands that are shown can be pasted, wherever the script is."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from sheily_server import shell
from tests.support.models import ROOT
from tests.support.waiting import WAIT


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script of an environment whose name needs quotes; PATH does not lead to it."""
    path = tmp_path / "my venv" / "bin" / "sheily"
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\necho "ran $*"\nexec {shlex.quote(sys.executable)} --version\n')
    path.chmod(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda name, *_: str(path.parent))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return path


def _ran(line: str) -> str:
    done = subprocess.run(line, shell=True, capture_output=True, timeout=WAIT, check=True)
    return done.stdout.decode().splitlines()[0]


def test_on_path_it_is_the_plain_name(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    assert shell.sheily("serve", "a b") == "sheily serve 'a b'"
    assert _ran(shell.sheily("serve")) == "ran serve"


def test_a_link_on_path_is_the_plain_name_too(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sheily").symlink_to(script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert shell.sheily("serve") == "sheily serve"


def test_off_path_it_is_the_absolute_path(script: Path) -> None:
    assert shell.sheily("serve") == f"'{script}' serve"
    assert _ran(shell.sheily("serve")) == "ran serve"


def test_the_script_of_another_environment_is_not_taken_for_ours(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "sheily"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}:/usr/bin:/bin")
    assert shell.sheily("serve") == f"'{script}' serve"


def test_without_a_script_it_is_this_python(script: Path) -> None:
    script.unlink()
    line = shell.sheily("--version")
    assert line == f"{shlex.quote(sys.executable)} -m sheily_server.cli --version"
    done = subprocess.run(
        line,
        shell=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=WAIT,
        check=True,
    )
    assert done.stdout.startswith(b"sheily-server ")


def test_two_lines_lead_to_a_model(script: Path) -> None:
    assert shell.to_a_model() == (f"'{script}' fetch smollm2", f"'{script}' serve smollm2")
