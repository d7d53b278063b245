"""The client's programs: what they read, and how they greet."""

from __future__ import annotations

import argparse
import builtins
import io
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from sheily_server.client import LLMClient
from sheily_server.client import __main__ as program
from tests.support.fake_server import WAIT, answer, running


def raises(error: BaseException, cause: BaseException | None = None) -> Callable[[str], NoReturn]:
    def read(_prompt: str) -> NoReturn:
        raise error from cause

    return read


@pytest.mark.parametrize(
    ("error", "cause", "kind"),
    [
        (SystemError("handler"), KeyboardInterrupt(), KeyboardInterrupt),
        (SystemError("other"), None, SystemError),
        (KeyboardInterrupt(), None, KeyboardInterrupt),
        (EOFError(), None, EOFError),
    ],
)
def test_a_second_ctrl_c_while_the_first_is_handled(
    error: BaseException,
    cause: BaseException | None,
    kind: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(builtins, "input", raises(error, cause))
    with pytest.raises(kind):
        program._typed("> ")


def test_lines_of_a_file() -> None:
    read = program._line_of(io.StringIO("one\r\n\ntwo"))
    assert [read(""), read(""), read("")] == ["one", "", "two"]
    with pytest.raises(EOFError):
        read("")


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ({"state": "ready", "model_path": "/m/A b.gguf"}, "A b is ready; /help shows the commands"),
        (
            {"state": "sleeping", "model_path": "/m/A.gguf"},
            "A sleeps, and the first question wakes it; /help shows the commands",
        ),
        ({"state": "loading", "progress": 0.256}, "the server is loading (26%)"),
        ({"state": "failed", "reason": "No file."}, "the server is failed: No file."),
    ],
)
def test_the_greeting(health: dict[str, object], words: str) -> None:
    with running() as server, LLMClient(server.url, timeout=WAIT) as client:
        server.script = answer(200, health)
        assert program._greeting(client) == words


@pytest.mark.parametrize(
    ("variable", "key"), [(None, None), ("", None), (" , x", None), ("a", "a"), (" a , b", "a")]
)
def test_the_key_is_the_first_one(variable: str | None, key: str | None) -> None:
    assert program._first_key({} if variable is None else {"LLM_API_KEY": variable}) == key


def test_a_text_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a" * program.MOST_BYTES)
    assert len(program._read(str(path))) == program.MOST_BYTES
    with path.open("ab") as file:
        file.write(b"a")
    with pytest.raises(ValueError, match="4 MiB"):
        program._read(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        program._read(str(path))


def test_arguments_that_are_no_utf_8() -> None:
    assert program._text("caf\udce9") == "caf\ufffd"
    with pytest.raises(argparse.ArgumentTypeError):
        program._number("inf")
