"""Bringing files from the Hugging Face Hub, with a stand-in on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from sheily_server.cli.download import FetchError
from sheily_server.cli.hub import HubFile, choices, fetch
from tests.support.fake_hub import REPO, FakeHub, serving

NAME = "Model-Q8_0.gguf"
CONTENT = b"GGUF" + bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
WANTED = HubFile(REPO, NAME)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    files = {NAME: CONTENT, "sub/Other.gguf": b"GGUF", "Big-00001-of-00002.gguf": b"GGUF"}
    with serving(FakeHub(files)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "models"


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has huggingface_hub not wait before it tries again, and write less than 10 MB at once."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_brings_a_file_and_leaves_nothing_else(hub: FakeHub, folder: Path) -> None:
    brought = fetch(WANTED, folder)
    assert (brought.path, brought.new, brought.licence) == (folder / NAME, True, "llama3.2")
    assert _names(folder) == [NAME]
    assert brought.path.read_bytes() == CONTENT
    assert not fetch(WANTED, folder).new
    assert hub.ranges == [None]


def test_a_file_in_a_folder_of_the_repository(hub: FakeHub, folder: Path) -> None:
    assert fetch(HubFile(REPO, "sub/Other.gguf"), folder).path == folder / "Other.gguf"


def test_another_file_of_that_name_is_replaced(hub: FakeHub, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(bytes(len(CONTENT)))
    assert fetch(WANTED, folder).new
    assert (folder / NAME).read_bytes() == CONTENT


@pytest.mark.usefixtures("_at_once")
def test_what_was_cut_off_once_goes_on_by_itself(hub: FakeHub, folder: Path) -> None:
    hub.cut_after, hub.cuts = 300_000, 1
    assert fetch(WANTED, folder).path.read_bytes() == CONTENT
    assert hub.ranges == [None, f"bytes={300_000 >> 16 << 16}-"]


@pytest.mark.usefixtures("_at_once")
def test_the_next_run_goes_on_where_the_last_was_cut_off(hub: FakeHub, folder: Path) -> None:
    hub.cut_after, hub.cuts = 100, 1000
    folder.mkdir(parents=True)
    part = folder / f".{NAME}.{DIGEST[:16]}.part"
    part.write_bytes(CONTENT[:400_000])
    with pytest.raises(FetchError, match=r"1 MB are here, and the same command goes on"):
        fetch(WANTED, folder)
    assert _names(folder) == [part.name]
    arrived = part.stat().st_size
    assert arrived >= 400_000
    hub.cuts, hub.ranges = 0, []
    assert fetch(WANTED, folder).path.read_bytes() == CONTENT
    assert hub.ranges == [f"bytes={arrived}-"]
    assert _names(folder) == [NAME]


def test_another_hash_than_the_hubs_is_not_kept(hub: FakeHub, folder: Path) -> None:
    hub.lie = True
    with pytest.raises(FetchError, match="sha256"):
        fetch(WANTED, folder)
    assert _names(folder) == []


def test_a_file_without_a_hash_is_not_brought(hub: FakeHub, folder: Path) -> None:
    hub.hashed = False
    with pytest.raises(FetchError, match="no sha256"):
        fetch(WANTED, folder)


def test_a_gated_repository_needs_a_token_that_others_do_not_get(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_good"
    for token in (None, "hf_bad"):
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(FetchError, match=rf"accept its licence.*{REPO}.*HF_TOKEN"):
            fetch(WANTED, folder)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert fetch(WANTED, folder).new
    assert set(hub.tokens_at_cdn) == {None}


def test_a_repository_that_is_not_there(hub: FakeHub, folder: Path) -> None:
    hub.private = True
    with pytest.raises(FetchError, match=r"no repository .*HF_TOKEN"):
        fetch(WANTED, folder)
    with pytest.raises(FetchError, match="owner/name"):
        fetch(HubFile("a/b/c", NAME), folder)


def test_a_file_that_is_not_there_gets_the_list_of_those_that_are(
    hub: FakeHub, folder: Path
) -> None:
    with pytest.raises(FetchError, match=rf"no file x\.gguf; its GGUF files are:\n  {NAME}\n"):
        fetch(HubFile(REPO, "x.gguf"), folder)
    assert choices(REPO).splitlines()[1:] == [f"  {name}" for name in hub.files]
    hub.files.clear()
    assert choices(REPO).endswith("has no GGUF files")


def test_a_model_in_parts_is_refused(hub: FakeHub, folder: Path) -> None:
    with pytest.raises(FetchError, match="several parts"):
        fetch(HubFile(REPO, "Big-00001-of-00002.gguf"), folder)


def test_a_full_disk_is_noticed_before(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(FetchError, match=rf"{NAME} needs 68 MB more"):
        fetch(WANTED, folder)
    assert hub.ranges == []


def test_a_second_process_does_not_write_into_the_same_file(hub: FakeHub, folder: Path) -> None:
    folder.mkdir(parents=True)
    with (folder / f".{NAME}.{DIGEST[:16]}.part").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="another process"):
            fetch(WANTED, folder)


def test_a_folder_that_is_a_file(hub: FakeHub, folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("")
    with pytest.raises(FetchError, match=rf"cannot put {NAME} into"):
        fetch(WANTED, folder)


@pytest.mark.usefixtures("_at_once")
def test_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(FetchError, match=r"no network: http://127\.0\.0\.1:1 cannot be reached"):
        fetch(WANTED, folder)


def test_without_the_extra_the_command_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FetchError) as caught:
        fetch(WANTED, folder)
    assert str(caught.value).endswith("-m pip install 'sheily-server[fetch]'")
