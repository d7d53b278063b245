"""Build options: what they imply, and one sentence for each that cannot be. Nothing is compiled."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import ROOT
from tools.arm64 import record_problem

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the options are for x86"),
]

BASELINE = {"GGML_SSE42", "GGML_AVX", "GGML_AVX2", "GGML_FMA", "GGML_F16C", "GGML_BMI2"}
AVX512 = {"avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl"}


def configure(folder: Path, *defines: str, **environment: str) -> tuple[dict[str, Any], str]:
    """What build_info.json says after CMake's configure step, and what CMake said if it failed."""
    given = {
        "CMAKE_BUILD_TYPE": "Release",
        "Python_EXECUTABLE": sys.executable,
        "SKBUILD": "2",
        "SKBUILD_PROJECT_VERSION": "0.1.0",
        "SKBUILD_PROJECT_VERSION_FULL": "0.1.0",
        "SKBUILD_SABI_COMPONENT": "Development.SABIModule",
        "SKBUILD_SABI_VERSION": "3.10",
        "SKBUILD_STATE": "wheel",
    }
    options = [f"-D{name}={value}" for name, value in given.items()]
    options += [f"-D{define}" for define in defines]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(folder),
            "-G",
            "Ninja",
            *options,
        ],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return {}, " ".join(done.stderr.split())
    info: dict[str, Any] = json.loads((folder / "build_info.json").read_text(encoding="utf-8"))
    return info, ""


def switched_on(info: dict[str, Any]) -> set[str]:
    return {name for name, value in info["options"].items() if value == "ON"}


def test_the_default_is_this_machine_s_cpu(tmp_path: Path) -> None:
    info, said = configure(tmp_path, SOURCE_DATE_EPOCH="315532800")
    assert said == ""
    assert info["flags"] == ["-march=native"]
    assert info["options"]["GGML_NATIVE"] == "ON"
    assert not BASELINE & switched_on(info)
    # A second configure in the same folder does not take what ggml cached for a choice.
    assert configure(tmp_path) == (info, "")


def test_without_native_the_baseline_is_avx2(tmp_path: Path) -> None:
    info, said = configure(tmp_path, "GGML_NATIVE=OFF")
    assert said == ""
    assert switched_on(info) >= BASELINE
    assert {"avx2", "fma", "f16c", "bmi2"} <= set(info["instruction_sets"])
    assert not AVX512 & set(info["instruction_sets"])


@pytest.mark.parametrize(
    ("option", "implied"),
    [
        ("GGML_AVX512", AVX512),
        ("GGML_AVX512_VNNI", AVX512 | {"avx512_vnni"}),
        ("GGML_AVX_VNNI", {"avx2", "avx_vnni"}),
        ("GGML_AMX_INT8", AVX512 | {"avx512_vnni", "amx_tile", "amx_int8"}),
    ],
)
def test_an_option_brings_what_it_needs(tmp_path: Path, option: str, implied: set[str]) -> None:
    info, said = configure(tmp_path, "GGML_NATIVE=OFF", f"{option}=ON")
    assert said == ""
    assert implied <= set(info["instruction_sets"])


def test_an_older_cpu_gets_avx_alone(tmp_path: Path) -> None:
    info, said = configure(tmp_path, "GGML_NATIVE=OFF", "GGML_AVX2=OFF")
    assert said == ""
    assert "avx" in info["instruction_sets"]
    assert not {"avx2", "fma", "bmi2", "f16c"} & set(info["instruction_sets"])


def test_threads_and_link_time_optimization_are_chosen(tmp_path: Path) -> None:
    info, said = configure(tmp_path, "GGML_OPENMP=OFF", "GGML_LTO=ON")
    assert said == ""
    assert info["options"]["GGML_OPENMP"] == "OFF"
    assert info["options"]["GGML_LTO"] == "ON"


@pytest.mark.parametrize(
    ("defines", "sentence"),
    [
        (
            ["GGML_AVX512=ON"],
            "cmake.define.GGML_NATIVE=OFF to choose instruction sets",
        ),
        (
            ["GGML_AVX2=OFF"],
            "cmake.define.GGML_NATIVE=OFF to choose instruction sets",
        ),
        (
            ["GGML_NATIVE=OFF", "GGML_AVX512_VNNI=ON", "GGML_AVX512=OFF"],
            "GGML_AVX512_VNNI=ON needs GGML_AVX512, which is switched off",
        ),
        (["GGML_AVX_512=ON"], "GGML_AVX_512 is not a build option"),
        (["GGML_CPU_ARM_ARCH=armv8.6-a"], "GGML_CPU_ARM_ARCH is for 64-bit ARM CPUs"),
        (["GGML_CUDA=ON"], "sheily_native runs on the CPU only"),
        (["GGML_BLAS_VENDOR=OpenBLAS"], "add --config-settings=cmake.define.GGML_BLAS=ON"),
        (["GGML_BLAS=ON", "GGML_BLAS_VENDOR=FLAME"], "were not found"),
        (["GGML_BLAS=ON", "CMAKE_DISABLE_FIND_PACKAGE_BLAS=ON"], "apt install libopenblas-dev"),
        (
            ["Python_INCLUDE_DIR=/no/such", "Python_ROOT_DIR=/no/such"],
            "apt install python3-dev",
        ),
    ],
)
def test_what_cannot_be_built_is_said(tmp_path: Path, defines: list[str], sentence: str) -> None:
    info, said = configure(tmp_path, *defines)
    assert info == {}
    assert sentence in said


def test_a_missing_compiler_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ninja").symlink_to(Path(sys.executable).parent / "ninja")
    info, said = configure(tmp_path / "build", PATH=str(folder))
    assert info == {}
    assert "apt install g++" in said


CROSS = (
    f"CMAKE_TOOLCHAIN_FILE={ROOT / 'cmake' / 'aarch64-linux-gnu.cmake'}",
    f"Python_INCLUDE_DIR={sysconfig.get_path('include')}",  # as scikit-build-core has it
)
cross = pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-g++") is None, reason="needs Debian's g++-aarch64-linux-gnu"
)


@cross
def test_a_build_for_arm64_has_dot_products_and_nothing_of_x86(tmp_path: Path) -> None:
    info, said = configure(tmp_path, *CROSS)
    assert said == ""
    assert record_problem(info) == ""


@cross
def test_a_build_for_arm64_takes_a_newer_architecture(tmp_path: Path) -> None:
    info, said = configure(tmp_path, *CROSS, "GGML_CPU_ARM_ARCH=armv8.6-a")
    assert said == ""
    assert info["options"]["GGML_CPU_ARM_ARCH"] == "armv8.6-a"
    assert {"asimddp", "i8mm", "bf16"} <= set(info["instruction_sets"])


@cross
@pytest.mark.parametrize(
    ("define", "sentence"),
    [
        ("GGML_AVX2=ON", "GGML_AVX2 is for x86 CPUs, and this build is for aarch64"),
        ("GGML_NATIVE=ON", "GGML_NATIVE=ON is for builds on the machine that runs them"),
    ],
)
def test_what_a_cross_build_cannot_have_is_said(tmp_path: Path, define: str, sentence: str) -> None:
    info, said = configure(tmp_path, *CROSS, define)
    assert info == {}
    assert sentence in said
