"""Every program of this project says what it is, which version it is, and what it does not take."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sheily_server import version
from tests.support.models import ROOT
from tests.support.waiting import WAIT

INTERNAL = {
    "benchmarks.engine.openvino_peer",
    "benchmarks.engine.worker",
    "benchmarks.serve.bare_loop",
    "sheily_server.engine.grammar.compiler",
}
"""Started by other programs alone."""


def programs() -> list[str]:
    found = []
    for folder in ("sheily_server", "sheily_native", "benchmarks", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if re.search(r'^if __name__ == "__main__":', path.read_text("utf-8"), re.MULTILINE):
                parts = path.relative_to(ROOT).with_suffix("").parts
                found.append(".".join(parts).removesuffix(".__main__"))
    return found


# Runs a program once with each of the arguments, and tells how each ended.
RUN = """
import contextlib, io, json, runpy, sys
program, ended = sys.argv[1], []
for argument in sys.argv[2:]:
    sys.argv = [program, argument]
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        except SystemExit as exit:
            code = exit.code
    ended.append((code or 0, out.getvalue(), err.getvalue()))
print(json.dumps(ended))
"""


@pytest.mark.parametrize("program", [name for name in programs() if name not in INTERNAL])
def test_help_version_and_what_is_not_taken(program: str) -> None:
    if program.endswith(".plot"):
        pytest.importorskip("matplotlib")  # `make test` alone does not install it
    done = subprocess.run(
        [sys.executable, "-c", RUN, program, "--help", "--version", "--nonsense"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=WAIT,
        check=True,
    )
    helped, told, refused = json.loads(done.stdout)
    assert helped[0] == 0
    assert f"usage: python -m {program} " in helped[1]
    assert "--version" in helped[1]
    if program.startswith("sheily_native"):
        assert told[0] in (0, 1)  # 1 where nothing was built
        assert (
            re.fullmatch(r"sheily_native [\d.]+, llama\.cpp b\d+, build \w+\n", told[1])
            or told[0] == 1
        )
    else:
        assert told[0] == 0
        assert re.fullmatch(r"sheily-server \d[\w.]*(, .*)?\n", told[1])
    assert (refused[0], refused[1]) == (2, "")
    assert "usage: python -m" in refused[2]


def test_internal_programs_are_there() -> None:
    assert set(programs()) >= INTERNAL


def test_llama_cpp_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "build_info.json"
    monkeypatch.setattr(version, "_records", lambda: [tmp_path / "none", record])
    own = f"sheily-server {version.package_version()}"
    for text in ("", "[]", "{}", '{"llama_cpp_build": "x"}'):
        record.write_text(text)
        assert version.versions() == f"{own}, without its compiled part"
    record.write_text('{"llama_cpp_build": 12}')
    assert version.versions() == f"{own}, llama.cpp b12"
