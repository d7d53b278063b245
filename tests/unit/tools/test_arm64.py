"""What a wheel for ARM64 must hold."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sheily_native.cpu import ARM_MACROS
from tools import arm64

RECORD: dict[str, Any] = {
    "architecture": "aarch64",
    "flags": ["-march=armv8.2-a+dotprod"],
    "options": {"GGML_NATIVE": "OFF", "GGML_CPU_ARM_ARCH": "armv8.2-a+dotprod"},
    "instruction_sets": ["atomics", "asimdrdm", "asimddp"],
    "unlisted_instruction_sets": [],
    "built_for": "",
}


def wheel(folder: Path, machine: int, record: dict[str, Any]) -> Path:
    path = folder / "made.whl"
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sheily_native/_native.abi3.so", header)
        archive.writestr("sheily_native/build_info.json", json.dumps(record))
    return path


def test_a_right_wheel_is_taken(tmp_path: Path) -> None:
    arm64.check_library(wheel(tmp_path, 183, RECORD))


def test_a_library_for_x86_is_named(tmp_path: Path) -> None:
    with pytest.raises(arm64.Arm64Error, match=r"made\.whl holds no ARM64 library"):
        arm64.check_library(wheel(tmp_path, 62, RECORD))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("architecture", "x86_64", "architecture 'x86_64'"),
        ("flags", [], "flags"),
        ("instruction_sets", ["cx16", "asimddp"], "cx16"),
        ("built_for", "GenuineIntel 6 158", "built_for"),
        ("options", {**RECORD["options"], "GGML_AVX2": "ON"}, "options of x86: GGML_AVX2"),
        ("options", {"GGML_NATIVE": "ON"}, "GGML_NATIVE"),
    ],
)
def test_a_record_that_is_wrong_is_named(
    tmp_path: Path, field: str, value: object, said: str
) -> None:
    with pytest.raises(arm64.Arm64Error, match=said):
        arm64.check_library(wheel(tmp_path, 183, {**RECORD, field: value}))


def test_the_emulated_cpu_has_what_the_baseline_needs() -> None:
    flags = set(arm64.CPUINFO.partition("Features\t: ")[2].splitlines()[0].split())
    assert flags & set(ARM_MACROS.values()) >= arm64.INSTRUCTION_SETS
    assert "i8mm" not in flags


def test_without_the_cross_compiler_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert arm64.main(["build"]) == 1
    assert "missing: g++-aarch64-linux-gnu" in capsys.readouterr().err


@pytest.mark.parametrize("name", arm64.TESTS)
def test_the_tests_that_are_run_there_exist(name: str) -> None:
    file, _, function = name.partition("::")
    assert f"def {function or 'test_'}" in (arm64.ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", arm64.LEFT_OUT)
def test_what_is_left_out_there_would_be_run(name: str) -> None:
    file, _, function = name.partition("::")
    assert file in arm64.TESTS
    assert f"def {function}(" in (arm64.ROOT / file).read_text(encoding="utf-8")
