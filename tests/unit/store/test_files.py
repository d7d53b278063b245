"""Which files may hold the store: whose they are, who else can reach them, what is in them."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheily_server.errors import StoreError
from tests.support.records import file_store, record

ROOT_USER = os.geteuid() == 0
ANOTHER_USER = 65_534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "responses.db"


@pytest.fixture(params=[0, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def refusal(path: Path) -> str:
    """The sentence with which a start ends."""
    with pytest.raises(StoreError) as caught:
        file_store(path).close()
    sentence = caught.value.message
    assert sentence.startswith(f"LLM_STORE is {str(path)!r}, which ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def make(path: Path) -> Path:
    """A store that has been used."""
    store = file_store(path)
    store.put(record("1"))
    store.close()
    return path


def test_its_files_are_for_their_owner_alone(path: Path, umask: int) -> None:
    store = file_store(path)
    store.put(record("1"))
    files = sorted(each.name for each in path.parent.iterdir())
    assert files == ["responses.db", "responses.db-wal"]
    assert {mode(each) for each in path.parent.iterdir()} == {0o600}
    store.close()
    assert [each.name for each in path.parent.iterdir()] == ["responses.db"]


@pytest.mark.parametrize(
    ("bits", "whom"),
    [
        (0o640, "its group"),
        (0o620, "its group"),
        (0o604, "every user"),
        (0o602, "every user"),
        (0o666, "its group and every user"),
    ],
)
def test_a_file_that_others_may_open(path: Path, bits: int, whom: str) -> None:
    make(path).chmod(bits)
    sentence = refusal(path)
    assert f"may be opened by {whom} (its mode is {bits:04o})" in sentence
    assert "chmod 600" in sentence
    path.chmod(0o600)
    make(path)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_file_beside_it_that_others_may_open(path: Path, suffix: str) -> None:
    make(path)
    beside = path.with_name(path.name + suffix)
    beside.touch()
    beside.chmod(0o644)
    assert f"has a file responses.db{suffix} beside it, which may be opened by" in refusal(path)
    beside.unlink()
    beside.symlink_to(path)
    assert f"has a file responses.db{suffix} beside it, which is a symb" in refusal(path)


@pytest.mark.skipif(not ROOT_USER, reason="only root can give a file to another user")
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_of_another_user(path: Path, suffix: str) -> None:
    make(path)
    theirs = path.with_name(path.name + suffix)
    theirs.touch(0o600)
    os.chown(theirs, ANOTHER_USER, ANOTHER_USER)
    assert f"belongs to another user (uid {ANOTHER_USER})" in refusal(path)


def test_links(path: Path) -> None:
    target = make(path.with_name("target.db"))
    path.symlink_to(target)
    assert "is a symbolic link: name the file itself" in refusal(path)
    path.unlink()
    path.symlink_to(path.with_name("none.db"))
    assert "is a symbolic link" in refusal(path)
    assert not path.with_name("none.db").exists()


def test_a_folder_may_be_reached_by_a_link(path: Path) -> None:
    folder = path.with_name("folder")
    folder.mkdir(0o700)
    path.with_name("link").symlink_to(folder)
    make(path.with_name("link") / "r.db")
    assert (folder / "r.db").is_file()


def test_what_is_not_a_file(path: Path) -> None:
    path.mkdir()
    assert "is a folder, not a file" in refusal(path)
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert "is a device, pipe or socket" in refusal(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(path.parent)  # the name of a socket may have 107 bytes
        try:
            listener.bind(path.name)
        finally:
            os.chdir(before)
        path.chmod(0o600)
        assert "is a device, pipe or socket" in refusal(path)


def test_folders(path: Path) -> None:
    folder = path.with_name("folder")
    inside = folder / "r.db"
    assert "is in a folder that does not exist: make" in refusal(inside)
    folder.write_text("")
    assert "which is not a folder" in refusal(inside)
    folder.unlink()
    folder.mkdir()
    folder.chmod(0o757)
    assert "where every user may put another file in its place: chmod o-w" in refusal(inside)
    assert list(folder.iterdir()) == []
    folder.chmod(0o1777)
    make(inside)


@pytest.mark.skipif(ROOT_USER, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(path: Path) -> None:
    folder = path.with_name("folder")
    folder.mkdir(0o500)
    assert "where this user may make no files" in refusal(folder / "r.db")


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch(0o600)
    make(path)
    store = file_store(path)
    assert store.get("resp_1", "anna") == record("1")
    store.close()


@pytest.mark.parametrize("content", [b"x", b"SQLite format 3", b"\0" * 5000, b"text\n" * 2000])
def test_another_program_s_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    assert "is not an SQLite database" in refusal(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("id", [0, 1, 0x53484C58])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_another_program_s_database(path: Path, id: int, journal: str) -> None:
    theirs = sqlite3.connect(path)
    theirs.execute(f"PRAGMA journal_mode = {journal}")
    theirs.execute(f"PRAGMA application_id = {id}")
    theirs.execute("CREATE TABLE responses (id TEXT)")
    theirs.commit()
    theirs.close()
    path.chmod(0o600)
    before = path.read_bytes()
    assert "is the SQLite database of another program" in refusal(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]
