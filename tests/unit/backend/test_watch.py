"""When a model's file that was missing or useless is looked at again, and when it is taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sheily_server.backend.preflight import ModelError, ModelFile
from sheily_server.backend.watch import BeingWrittenError, Watch
from tests.support.models import EMPTY_GGUF


def failed(path: Path) -> Watch:
    """A watch as the supervisor begins it, after the file could not be used."""
    file = ModelFile(path)
    with pytest.raises(ModelError):
        file.header()
    return Watch(path, file.mark)


def problem(watch: Watch) -> str:
    with pytest.raises(ModelError) as caught:
        watch.look()
    return str(caught.value)


def growing(watch: Watch) -> str:
    with pytest.raises(BeingWrittenError) as caught:
        watch.look()
    return str(caught.value)


def test_nothing_happens_while_there_is_no_file(tmp_path: Path) -> None:
    watch = failed(tmp_path / "m.gguf")
    assert [watch.look() for _ in range(3)] == [None] * 3


def test_a_file_is_taken_once_two_looks_see_it_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    watch = failed(path)
    path.write_bytes(EMPTY_GGUF)
    assert "is being written" in growing(watch)
    found = watch.look()
    assert found is not None
    assert found.file_bytes == len(EMPTY_GGUF)


def test_a_download_is_left_alone_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    watch = failed(path)
    with path.open("wb") as file:
        for i in range(4):
            file.write(EMPTY_GGUF[6 * i : 6 * i + 6])
            file.flush()
            assert "is being written" in growing(watch)
    assert watch.look() is not None


def test_a_download_that_stops_is_named_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    watch = failed(path)
    path.write_bytes(EMPTY_GGUF[:10])
    growing(watch)
    assert "ends in the middle" in problem(watch)
    assert watch.look() is None
    path.write_bytes(EMPTY_GGUF)
    growing(watch)
    assert watch.look() is not None


def test_a_useless_file_is_looked_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"no model at all")
    watch = failed(path)
    assert [watch.look() for _ in range(3)] == [None] * 3
    replaced = tmp_path / "other"
    replaced.write_bytes(EMPTY_GGUF)
    os.replace(replaced, path)
    growing(watch)
    assert watch.look() is not None


def test_a_file_that_goes_away_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"no model at all")
    watch = failed(path)
    path.unlink()
    assert "does not exist" in problem(watch)
    assert watch.look() is None
    path.mkdir()
    growing(watch)
    assert "is not a file" in problem(watch)
