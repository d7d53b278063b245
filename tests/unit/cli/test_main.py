"""The command `sheily`: its commands, its help, and the scripts that complete it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sheily_server.cli.completion import SHELLS
from sheily_server.cli.main import COMMANDS, main
from sheily_server.cli.places import FILES, user_folder
from sheily_server.shell import sheily
from tests.support.models import ROOT
from tests.support.waiting import WAIT


def _run(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sheily_server.cli", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WAIT,
        check=False,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_of_its_own(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/a/bin/sheily"])
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: sheily {name} ")


def test_the_help_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    output = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"    {name}" in output
        assert " ".join(command.help.split()) in " ".join(output.split())


@pytest.mark.parametrize("words", [[], ["serv"], ["--port", "1"]])
def test_no_command_is_refused_with_the_list(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "usage: " in capsys.readouterr().err


def test_commands_beside_the_native_library_run_without_it() -> None:
    """As `sheily fetch` and `sheily chat` may be on a machine whose CPU cannot run the library."""
    code = (
        "import sys; sys.modules['sheily_native'] = None\n"
        "from sheily_server.cli.main import main\n"
        "sys.exit(main(['fetch', '--list']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=WAIT, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"smollm2 ")


def test_the_version_names_llama_cpp_and_the_build_where_there_is_one() -> None:
    done = _run("--version")
    assert re.fullmatch(
        rb"sheily-server \d[\w.]*, (llama\.cpp b\d+, \w+ build|without its compiled part)\n",
        done.stdout,
    )


def test_tune_takes_the_short_name_of_a_fetched_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []

    def tune(arguments: list[str], *, program: str, server: str) -> int:
        assert program.endswith(" tune")
        assert server == sheily("serve")
        given.append(arguments)
        return 0

    monkeypatch.setattr("sheily_native.tune.__main__.main", tune)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "smollm2"]) == 0
    path = user_folder() / FILES["smollm2"]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    assert main(["tune", "--seconds", "5", "smollm2"]) == 0
    assert given == [["smollm2"], ["--seconds", "5", str(path)]]


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "sheily_server.cli", "fetch", "--list"],
            cwd=ROOT,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=WAIT,
            check=False,
        )
    assert (done.returncode, done.stderr) == (128 + 13, b"")


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_with_all_commands(shell: str, tmp_path: Path) -> None:
    done = _run("completion", shell)
    assert (done.returncode, done.stderr) == (0, b"")
    for name in COMMANDS:
        assert name.encode() in done.stdout
    if shutil.which(shell) is not None:
        script = tmp_path / f"sheily.{shell}"
        script.write_bytes(done.stdout)
        subprocess.run([shell, "-n", str(script)], check=True, timeout=WAIT)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["h"], ["health"]),
        (["serve", "--model-p"], ["--model-path"]),
        (["serve", "sm"], ["smollm2"]),
        (["serve", "--strict", "o"], ["on", "off"]),
        (["fetch", "lla"], ["llama-3.2-3b-instruct"]),
        (["completion", "f"], ["fish"]),
    ],
)
def test_bash_completes(typed: list[str], completed: list[str], tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    script = tmp_path / "script"
    script.write_bytes(_run("completion", "bash").stdout)
    words = ["sheily", *typed]
    ask = (
        'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
        'f=$(complete -p sheily); f=${f#*-F }; ${f%% *} sheily "${@: -1}" "${@: -2:1}";'
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", ask, str(script), *words], capture_output=True, timeout=WAIT, check=True
    )
    assert done.stdout.decode().split() == completed
