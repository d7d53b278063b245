"""The library on ARM64: what it says of itself, and a CPU that it refuses; skipped elsewhere."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sheily_native
from sheily_native import kernels
from sheily_native.cpu import ARM_MACROS, CPUINFO, X86_MACROS
from tests.support import models
from tests.support.real_server import RealServer

pytestmark = pytest.mark.skipif(platform.machine() != "aarch64", reason="for ARM64")

# A Cortex-A72, as in a Raspberry Pi 4: no dot products.
OLD_CPU = "processor : 0\nFeatures : fp asimd evtstrm crc32 cpuid\nCPU part : 0xd08\n"

REFUSED = """
import pathlib, sys
from sheily_native import _library, cpu
cpu.CPUINFO = pathlib.Path(sys.argv[1])
try:
    _library.library()
except Exception as error:
    print(type(error).__name__, error)
print("sheily_native._native" in sys.modules)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_the_build_says_arm_and_nothing_of_x86() -> None:
    info = sheily_native.build_info()
    assert info.architecture == "aarch64"
    assert info.missing == ()
    assert set(info.instruction_sets) <= set(ARM_MACROS.values())
    assert not [name for name in info.options if "AVX" in name or "SSE" in name]
    flags = CPUINFO.read_text(encoding="utf-8")
    assert not set(info.unused) & set(X86_MACROS.values()), flags


def test_the_program_that_describes_the_build_succeeds() -> None:
    done = run("-m", "sheily_native")
    assert done.returncode == 0, done.stderr
    assert "asimddp" in done.stdout
    assert "avx" not in done.stdout.lower()


def test_there_are_no_kernels_of_ours() -> None:
    assert kernels.names() == []
    done = run("-m", "sheily_native.usable")
    assert json.loads(done.stdout)["kernels"] == []


def test_a_kernel_that_is_not_there_is_refused_by_name() -> None:
    blocks = np.zeros((1, 1, kernels.BLOCK_BYTES), np.uint8)
    tokens = np.zeros((1, kernels.BLOCK), np.float32)
    with pytest.raises(sheily_native.NativeError, match="there is no kernel 'avx2'"):
        kernels.multiply("avx2", blocks, tokens)


def test_a_cpu_without_dot_products_is_refused_before_the_library_is_loaded(
    tmp_path: Path,
) -> None:
    if "asimddp" not in sheily_native.build_info().instruction_sets:
        pytest.skip("this build needs no dot products")
    (tmp_path / "cpuinfo").write_text(OLD_CPU, encoding="utf-8")
    done = run("-c", REFUSED, os.fspath(tmp_path / "cpuinfo"))
    said, loaded = done.stdout.splitlines()
    assert said.startswith("IncompatibleCPUError")
    assert "asimddp" in said
    assert loaded == "False"


def test_the_server_says_that_the_kernel_is_off() -> None:
    with RealServer(models.smollm2(), context_size=512) as server:
        server.wait_for_state("ready")
        assert server.health()["kernel"] is None  # llama.cpp's own
        assert "kernel off" in server.log
