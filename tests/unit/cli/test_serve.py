"""`sheily serve`: which model it is, and what the server is started with."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sheily_server.cli import fetch, places, serve
from sheily_server.config import load

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
LLAMA = "Llama-3.2-3B-Instruct-Q8_0.gguf"


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    """Runs in an empty folder, with an empty folder for data; what the server was started with."""
    calls: list[tuple[list[str], str]] = []

    def fake(arguments: list[str], *, program: str) -> int:
        calls.append((arguments, program))
        return 0

    monkeypatch.setattr(serve, "serve", fake)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("LLM_MODEL_PATH", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return calls


def _put(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"GGUF")
    return folder / name


@pytest.mark.parametrize("name", ["smollm2", "SmolLM2", SMOLLM2])
def test_a_model_is_looked_for_here_and_then_among_the_fetched(
    name: str, started: list[tuple[list[str], str]]
) -> None:
    fetched = _put(places.user_folder(), SMOLLM2)
    assert serve.main([name], "sheily") == 0
    near = _put(Path("models").absolute(), SMOLLM2)
    assert serve.main([name], "sheily") == 0
    assert [arguments for arguments, _ in started] == [
        [f"--model-path={fetched}"],
        [f"--model-path={near}"],
    ]


def test_all_flags_of_the_server_are_passed_on(started: list[tuple[list[str], str]]) -> None:
    path = _put(places.user_folder(), SMOLLM2)
    given = ["--host", "::1", "--model-aliases", "smollm2", "smollm2", "--port=0"]
    assert serve.main(given, "sheily") == 0
    [(arguments, program)] = started
    config = load(arguments, {})
    assert program == "sheily serve"
    assert (config.host, config.port, config.model_path) == ("::1", 0, path)
    assert config.model_aliases == ("smollm2",)


def test_the_default_model_may_be_a_fetched_one_and_no_other_is_taken(
    started: list[tuple[list[str], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(places.user_folder(), SMOLLM2)
    _put(Path("models"), SMOLLM2)
    serve.main([], "sheily")
    path = _put(places.user_folder(), LLAMA)
    serve.main([], "sheily")
    monkeypatch.setenv("LLM_MODEL_PATH", "other.gguf")
    serve.main([], "sheily")
    monkeypatch.delenv("LLM_MODEL_PATH")
    _put(Path("models"), LLAMA)
    serve.main([], "sheily")
    assert [arguments for arguments, _ in started] == [[], [f"--model-path={path}"], [], []]


def test_a_model_that_is_not_there_gets_the_line_that_brings_it(
    started: list[tuple[list[str], str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve.main(["smollm2"], "sheily") == 2
    assert capsys.readouterr().err.endswith(" serve --fetch smollm2\n")
    assert serve.main(["nonsense"], "sheily") == 2
    assert "Known names: smollm2, " in capsys.readouterr().err
    assert started == []


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--fetch"], "MODEL"),
        (["--fetch", "x.gguf"], "smollm2"),
        (["smollm2", "--model-path", "x"], "two models"),
    ],
)
def test_words_that_do_not_fit_together(
    given: list[str],
    word: str,
    started: list[tuple[list[str], str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        serve.main(given, "sheily")
    assert word in capsys.readouterr().err
    assert started == []


def test_a_fetched_model_is_served_by_a_fresh_process(
    started: list[tuple[list[str], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the download has begun threads, which each have a heap."""
    fetched: list[Sequence[str]] = []
    ran: list[tuple[str, list[str]]] = []

    class Replaced(Exception):
        pass

    def exec_(path: str, words: list[str]) -> None:
        ran.append((path, words))
        raise Replaced

    def bring(words: Sequence[str], _program: str, *, next_step: bool) -> int:
        assert not next_step
        fetched.append(words)
        return 0

    monkeypatch.setattr(fetch, "main", bring)
    monkeypatch.setattr(os, "execv", exec_)
    command = ["python", "/bin/sheily", "serve", "--fetch", "smollm2", "--port", "0"]
    monkeypatch.setattr(sys, "orig_argv", command)
    with pytest.raises(Replaced):
        serve.main(command[3:], "sheily")
    assert fetched == [["smollm2"]]
    assert ran == [(sys.executable, ["python", "/bin/sheily", "serve", "smollm2", "--port", "0"])]
    _put(places.user_folder(), SMOLLM2)
    assert serve.main(command[3:], "sheily") == 0
    assert len(fetched) == len(ran) == len(started) == 1


def test_a_failed_fetch_starts_nothing(
    started: list[tuple[list[str], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "main", lambda *_, **__: 1)
    assert serve.main(["--fetch", "smollm2"], "sheily") == 1
    assert started == []


def test_a_relative_data_folder_counts_as_none(tmp_path: Path) -> None:
    assert places.user_folder({"XDG_DATA_HOME": "data"}) == places.user_folder({})
    assert places.user_folder({"XDG_DATA_HOME": "/d"}) == Path("/d/sheily/models")
