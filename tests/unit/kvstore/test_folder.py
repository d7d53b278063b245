"""The folder: ours alone, bounded, and shared."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from sheily_server.kvstore.folder import OLD_S, Folder, UnsafeFolderError
from sheily_server.kvstore.notes import MOST_REST_S, Notes
from sheily_server.kvstore.owners import Owners, owner_of
from sheily_server.kvstore.room import Room

NAME = f"{'0' * 64}-256-{'0' * 16}.kv"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "a" / "cache")


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path, folder: Folder) -> None:
    path = tmp_path / "a" / "cache"
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172")
    Folder(path)  # another process


def test_unsafe_folders_are_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(UnsafeFolderError, match="may be written to by others: chmod 700"):
        Folder(open_to_all)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(UnsafeFolderError, match="a link, where a folder is wanted"):
        Folder(link)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UnsafeFolderError, match="a file, where a folder is wanted"):
        Folder(file)
    with pytest.raises(UnsafeFolderError, match="below, which cannot be used: "):
        Folder(file / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.mkdir(0o700)
    os.chown(path, 65534, 65534)
    with pytest.raises(UnsafeFolderError, match="belongs to another user"):
        Folder(path)


def test_the_least_recently_used_files_go_first(folder: Folder) -> None:
    room = Room(folder, 1000)
    for i in range(12):
        room.added(folder.write(f"{i:02x}", NAME, bytes(100)))
        os.utime(_path(folder, f"{i:02x}") / NAME, (i, i))
    folder.touch("00", NAME)
    assert room.is_due
    room.look()
    left = [i for i in range(12) if folder.exists(f"{i:02x}", NAME)]
    assert left == [0, *range(4, 12)]
    assert (room.used, room.n_files, room.n_evicted) == (900, 9, 3)
    assert not room.is_due


def test_what_others_wrote_is_counted(tmp_path: Path, folder: Folder) -> None:
    room = Room(folder, 1000)
    Folder(tmp_path / "a" / "cache").write("00", NAME, bytes(300))
    assert room.is_due
    room.look()
    assert room.used == 300


def test_what_somebody_else_has_in_the_folder_stays(folder: Folder) -> None:
    path = folder._path
    theirs = [
        path / "letters" / "a.tmp",
        path / "00" / "1.kv",
        path / "00" / "b.tmp",
        path / "owners" / "c.txt",
        path / "d.txt",
    ]
    folder.write("00", NAME, bytes(100))
    folder.write("n00", "ab" * 20, bytes(100))
    for each in theirs:
        each.parent.mkdir(exist_ok=True)
        each.write_bytes(bytes(100))
        os.utime(each, (1, 1))
    room = Room(folder, 0)
    room.look()
    Owners(folder).prune()
    assert (room.used, room.n_files, room.n_evicted) == (0, 0, 2)
    assert all(each.exists() for each in theirs)


def test_what_answers_have_is_not_forgotten_for_want_of_room(folder: Folder) -> None:
    owner, block = owner_of("resp_1"), ("00", NAME)
    Owners(folder).add(owner, [block])
    os.utime(_path(folder, "owners") / owner, (1, 1))
    folder.write(*block, bytes(100))
    room = Room(folder, 100)
    room.look()
    assert Owners(folder).erase(owner) == 1


def test_an_answer_has_what_was_written_of_it_bit_by_bit(folder: Folder) -> None:
    owners, owner = Owners(folder), owner_of("resp_1")
    names = [("00", f"{i:02x}-256-ab.kv") for i in range(3)]
    for name in names:
        folder.write(*name, b"x")
        owners.add(owner, [name])
    assert owners.erase(owner) == 3


def test_a_folder_that_went_comes_back_once_it_may(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder._path / "CACHEDIR.TAG").unlink()
    folder._path.rmdir()

    def refused(path: Path, *given: object, **named: object) -> None:
        raise PermissionError("no")

    before = folder._root
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        for _ in range(2):
            with pytest.raises(PermissionError):
                folder.write("00", "0.kv", b"x")
    os.fstat(before)  # not closed: its number could be anybody's then
    folder.write("00", "0.kv", b"x")
    assert folder.exists("00", "0.kv")


def test_what_was_left_half_written_goes_once_it_is_old(folder: Folder) -> None:
    folder.write("00", "0.kv", b"x")
    for name, age in ((".1-1.tmp", OLD_S + 10), (".1-2.tmp", 10)):
        path = _path(folder, "00") / name
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    assert [each.name for each in folder.entries("00", time.time())] == ["0.kv"]
    assert {path.name for path in _path(folder, "00").iterdir()} == {"0.kv", ".1-2.tmp"}


def test_an_answer_takes_along_what_it_alone_has(folder: Folder) -> None:
    owners = Owners(folder)
    names = [("00", f"{i:02x}-256-ab.kv") for i in range(6)]
    for name in names:
        folder.write(*name, b"x")
    first, second = owner_of("resp_1"), owner_of("resp_2")
    owners.add(first, names[:3])
    owners.add(second, names[1:5])
    owners.add("", [names[4], names[5]])
    assert owners.erase(first) == 1
    assert owners.erase(first) == 0
    assert [folder.exists(*name) for name in names] == [False, True, True, True, True, True]
    assert owners.erase(second) == 3
    assert [folder.exists(*name) for name in names] == [False] * 4 + [True] * 2
    assert owners.erase(owner_of("resp_3")) == 0


def test_names_that_lead_elsewhere_are_not_erased(tmp_path: Path, folder: Folder) -> None:
    aside = tmp_path / "aside.kv"
    aside.touch()
    owners = Owners(folder)
    owner = owner_of("resp_1")
    owners.add(owner, [("..", "aside.kv"), ("../..", "aside.kv"), ("00", "../../aside.kv")])
    assert owners.erase(owner) == 0
    assert aside.exists()
    folder.write("owners", owner, b"\xff no JSON")
    assert owners.erase(owner) == 0


def test_owners_without_files_are_forgotten_after_a_day(folder: Folder) -> None:
    owners = Owners(folder)
    folder.write("00", "00-256-ab.kv", b"x")
    owners.add(owner_of("a"), [("00", "00-256-ab.kv")])
    owners.add(owner_of("b"), [("00", "01-256-ab.kv")])
    owners.prune()
    assert len(folder.names("owners")) == 2
    for name in folder.names("owners"):
        os.utime(_path(folder, "owners") / name, (0, 0))
    owners.prune()
    assert folder.names("owners") == [owner_of("a")]


def test_notes_come_back_and_doubtful_ones_do_not(folder: Folder) -> None:
    notes = Notes(folder, "date", 16)
    assert notes.get(b"a", b"b") is None
    where = notes.put(b"a", b"b", data=b"2026-01-02")
    assert Notes(folder, "date", 16).get(b"a", b"b") == b"2026-01-02"
    assert notes.get(b"ab", b"") is None
    assert Notes(folder, "other", 16).get(b"a", b"b") is None
    notes.put(b"long", data=bytes(17))
    assert notes.get(b"long") is None
    path = _path(folder, where[0]) / where[1]
    path.write_bytes(path.read_bytes()[:-1] + b"3")
    assert notes.get(b"a", b"b") is None
    path.write_bytes(bytes(1000))
    assert notes.get(b"a", b"b") is None


def test_a_slow_folder_is_not_looked_into_for_a_while(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, clock, looks = Notes(folder, "date", 16), [1000.0], []
    notes.put(b"a", data=b"x")
    read = folder.read

    def slow(*given: Any) -> bytes:
        looks.append(given)
        clock[0] += 1.0
        return read(*given)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(folder, "read", slow)
    assert notes.get(b"a") == b"x"
    assert notes.get(b"a") is None
    assert len(looks) == 1
    clock[0] += MOST_REST_S
    assert notes.get(b"a") == b"x"


def _path(folder: Folder, name: str) -> Path:
    return folder._path / name
