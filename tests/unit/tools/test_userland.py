"""The command that enters a userland, and why there may be none."""

from __future__ import annotations

import os
import platform
import shlex
from pathlib import Path

import pytest

from tools import userland


def script(*inside: str, binds: list[userland.Bind] | None = None, **options: object) -> str:
    made = userland.command(Path("/root dir"), inside, binds=binds or [], **options)  # type: ignore[arg-type]
    return made[-1]


def test_what_runs_inside_is_quoted_word_for_word() -> None:
    last = shlex.split(script("echo", "a b", "$HOME").splitlines()[-1])
    assert last[-3:] == ["echo", "a b", "$HOME"]
    assert last[:2] == ["exec", "chroot"]
    assert "/root dir" in last


def test_nothing_of_this_environment_goes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_API_KEY", "secret")
    text = script("true", environment={"A": "1"})
    assert "env -i A=1 " in text
    assert "secret" not in text


def test_binds_are_read_only_unless_they_say_otherwise(tmp_path: Path) -> None:
    read, written = tmp_path / "read", tmp_path / "written"
    read.mkdir()
    written.mkdir()
    text = script("true", binds=[userland.Bind(read, "/r"), userland.Bind(written, "/w", True)])
    remounted = [line for line in text.splitlines() if "remount" in line]
    assert remounted == ["mount -o remount,bind,ro '/root dir/r'"]


def test_a_read_only_root_comes_after_all_mounts() -> None:
    lines = script("true", read_only=True).splitlines()
    assert lines[-2] == "mount -o remount,bind,ro '/root dir'"


def test_a_user_is_taken_over() -> None:
    assert "--userspec=10001:10001" in script("true", user="10001:10001")


def test_without_root_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert userland.reason_against("amd64") == "chroot needs root"
    with pytest.raises(userland.UserlandError, match="No arm64 userland can be made: chroot"):
        userland.make(tmp_path / "made", "arm64", ["python3"])


def test_missing_programs_are_named_by_their_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert "missing: debootstrap (names" in userland.reason_against("amd64")
    assert "debootstrap qemu-user-static" in userland.reason_against("arm64")


def test_a_userland_that_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # so that none could be made
    (tmp_path / userland.STAMP).write_text("bookworm arm64 a b\n", encoding="utf-8")
    userland.make(tmp_path, "arm64", ["b", "a"])
    with pytest.raises(userland.UserlandError):
        userland.make(tmp_path, "arm64", ["a"])
