"""How many CPUs there are for this process, under control groups that are made up."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from sheily_native._threads import default_threads

N_CPUS = 16


@pytest.fixture(autouse=True)
def _cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus: Iterable[int] = range(N_CPUS)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cpus), raising=False)


def n_threads(folder: Path, cgroup: str, **limits: str) -> int:
    """Of a process in such groups. `limits` are files of the hierarchy: `a__cpu_max` is
    a/cpu.max."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "self" / "cgroup").write_text(cgroup)
    for name, text in limits.items():
        path = folder / "groups" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return default_threads(folder / "proc", folder / "groups")


@pytest.mark.parametrize(
    ("quota", "n"),
    [
        ("max 100000\n", N_CPUS),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("30000 10000\n", 3),
        ("9900000 100000\n", N_CPUS),
        ("nonsense", N_CPUS),
        ("200000 0\n", N_CPUS),
        ("", N_CPUS),
    ],
)
def test_a_quota(tmp_path: Path, quota: str, n: int) -> None:
    assert n_threads(tmp_path, "0::/a\n", a__cpu_max=quota) == n


@pytest.mark.parametrize(("own", "above", "n"), [("4", "8", 4), ("8", "4", 4), ("max", "3", 3)])
def test_the_least_of_a_group_and_those_above_it(
    tmp_path: Path, own: str, above: str, n: int
) -> None:
    own, above = (f"{part}00000 100000" if part != "max" else "max 100000" for part in (own, above))
    assert n_threads(tmp_path, "0::/a/b/c\n", a__b__c__cpu_max=own, a__cpu_max=above) == n


def test_the_root_counts_where_a_container_sees_another_place(tmp_path: Path) -> None:
    """Without a namespace of its own, it reads its path on the host."""
    assert n_threads(tmp_path, "0::/docker/0123\n", cpu_max="500000 100000") == 5


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    assert (
        n_threads(
            tmp_path,
            "5:cpuset:/y\n4:cpu,cpuacct:/x/z\n0::/\n",
            cpu__x__z__cpu_cfs_quota_us="-1\n",
            cpu__x__z__cpu_cfs_period_us="100000\n",
            cpu__x__cpu_cfs_quota_us="250000\n",
            cpu__x__cpu_cfs_period_us="100000\n",
            cpuset__y__cpu_cfs_quota_us="100000\n",
            cpuset__y__cpu_cfs_period_us="100000\n",
        )
        == 3
    )


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert default_threads(tmp_path / "none", tmp_path / "none") == N_CPUS


def test_a_quota_of_more_than_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert n_threads(tmp_path, "0::/\n", cpu_max="200000 100000") == 1
