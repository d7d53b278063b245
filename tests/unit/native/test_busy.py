"""How much other programs take, with a false /proc/stat."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sheily_native import _busy
from sheily_native._busy import OtherPrograms

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(path: Path, user: float, idle: float, steal: float) -> None:
    columns = [round(seconds * TICKS) for seconds in (user, 0, 0, idle, 0, 0, 0, steal)]
    path.write_text(f"cpu  {' '.join(map(str, columns))} 0 0\ncpu0 1 2 3\n", encoding="ascii")


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OtherPrograms:
    """10 s on two CPUs, with 6 s of this process among 12 s in which a CPU was busy."""
    stat = tmp_path / "stat"
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(_busy, "_own_s", lambda: 3.0)
    _stat(stat, user=1000, idle=5, steal=1)
    others = OtherPrograms(stat)
    monkeypatch.setattr(time, "monotonic", lambda: 110.0)
    monkeypatch.setattr(_busy, "_own_s", lambda: 9.0)
    _stat(stat, user=1010, idle=13, steal=3)
    return others


def test_what_others_take_is_what_is_not_ours(measured: OtherPrograms) -> None:
    measured.stop()
    assert measured.share() == pytest.approx(6 / 20)
    [sentence] = measured.sentences()
    assert sentence.startswith("Other programs took 30% of the CPUs")


def test_a_quiet_machine_is_not_mentioned(
    measured: OtherPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_busy, "_own_s", lambda: 14.0)
    measured.stop()
    assert measured.share() == pytest.approx(1 / 20)
    assert measured.sentences() == []


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    others = OtherPrograms(tmp_path / "none")
    others.stop()
    assert others.share() is None
    assert others.sentences() == []


def test_on_this_machine_it_is_a_share() -> None:
    others = OtherPrograms()
    others.stop()
    share = others.share()
    assert share is None or 0 <= share <= 1
