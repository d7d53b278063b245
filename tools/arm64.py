"""Builds the wheel for Linux on ARM64 and tests it, on a machine of another kind.

    python -m tools.arm64 build    cross-builds with Debian's compiler and looks at the result
    python -m tools.arm64 test     runs tests with that wheel in an ARM64 userland, under qemu-user

All is kept under build/arm64. `test` needs root, debootstrap and qemu-user-static; it makes the
userland first, about ten minutes. Ends with one sentence on stderr and exit code 1 when it cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sheily_server.version import ShowVersion
from tools import userland

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "arm64"
TOOLCHAIN = ROOT / "cmake" / "aarch64-linux-gnu.cmake"
COMPILER = "aarch64-linux-gnu-g++"

MACHINE = "aarch64"
ELF_MACHINE = 183
ARM_ARCH = "armv8.2-a+dotprod"
INSTRUCTION_SETS = {"atomics", "asimdrdm", "asimddp"}
"""What that baseline lets a compiler use."""

GLIBC = range(17, 37)
"""Minor versions of glibc 2 whose wheels the userland takes; Debian 12 has 2.36."""
PYTHON = "3.11"
PACKAGES = ("ca-certificates", "libgomp1", "libstdc++6", "python3")
TEST_PACKAGES = ("pytest", "pytest-timeout", "hypothesis", "openai", "httpx", "jsonschema", "gguf")

# A core that has the baseline and little more, and one that lacks its dot products.
QEMU_CPU, CPUINFO = (
    "neoverse-n1",
    "processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp "
    "cpuid asimdrdm lrcpc dcpop asimddp ssbs\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n",
)

TESTS = (
    "tests/native/test_arm64.py",
    "tests/native/test_context.py",
    "tests/native/test_model.py",
    "tests/native/test_sampler.py",
    "tests/native/test_tokenizer.py",
    "tests/e2e/test_pipeline.py",
    "tests/e2e/test_smollm2.py::test_the_model_is_listed",
    "tests/e2e/test_smollm2.py::test_the_first_example_comes_out_right",
    "tests/e2e/test_smollm2.py::test_an_answer_has_every_field",
    "tests/e2e/test_smollm2.py::test_a_stream_is_the_answer_in_pieces",
)
LEFT_OUT = (
    "tests/native/test_context.py::test_shared_cells_take_the_place_of_equal_ones_in_the_middle",
)
"""docs/reliability.md says why, and why others are not run."""


class Arm64Error(Exception):
    """What is missing or wrong, in one sentence."""


def check_library(wheel: Path) -> None:
    """Raises Arm64Error unless the wheel holds an ARM64 library, with a record that says so."""
    with zipfile.ZipFile(wheel) as archive:
        header = archive.read("sheily_native/_native.abi3.so")[:20]
        info = json.loads(archive.read("sheily_native/build_info.json"))
    # ELF-64: four bytes of magic, class 2; the machine at offset 18.
    if header[:5] != b"\x7fELF\x02" or struct.unpack_from("<H", header, 18)[0] != ELF_MACHINE:
        raise Arm64Error(f"{wheel.name} holds no ARM64 library: it begins with {header.hex()}.")
    if problem := record_problem(info):
        raise Arm64Error(f"{wheel.name}: build_info.json has {problem}.")


def record_problem(info: Mapping[str, object]) -> str:
    """Returns what is wrong in build_info.json of the baseline build; "" if nothing is."""
    options = info["options"]
    assert isinstance(options, dict)
    wrong = [name for name in options if "AVX" in name or "SSE" in name or "AMX" in name]
    if wrong:
        return f"options of x86: {', '.join(sorted(wrong))}"
    expected = {
        "architecture": MACHINE,
        "flags": [f"-march={ARM_ARCH}"],
        "unlisted_instruction_sets": [],
        "built_for": "",
    }
    for name, value in expected.items():
        if info[name] != value:
            return f"{name} {info[name]!r} instead of {value!r}"
    if options.get("GGML_NATIVE") != "OFF" or options.get("GGML_CPU_ARM_ARCH") != ARM_ARCH:
        return f"the options {options!r}"
    sets = info["instruction_sets"]
    assert isinstance(sets, list)
    return "" if set(sets) == INSTRUCTION_SETS else f"the instruction sets {sets!r}"


def build() -> Path:
    """Returns the checked wheel. Raises Arm64Error, CalledProcessError."""
    if shutil.which(COMPILER) is None:
        raise Arm64Error("missing: g++-aarch64-linux-gnu (the name of a Debian package).")
    into = FOLDER / "dist"
    shutil.rmtree(into, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", str(ROOT)]
    settings = [f"build-dir={FOLDER / 'objects'}", f"cmake.define.CMAKE_TOOLCHAIN_FILE={TOOLCHAIN}"]
    options = [part for setting in settings for part in ("--config-settings", setting)]
    subprocess.run(
        [*command, *options, "--wheel-dir", str(into), "--verbose"],
        env={**os.environ, "_PYTHON_HOST_PLATFORM": f"linux-{MACHINE}", **_headers()},
        check=True,
    )
    (wheel,) = into.glob("*.whl")
    check_library(wheel)
    return wheel


def _headers() -> dict[str, str]:
    """Debian's Python has a pyconfig.h for each architecture, of which only this machine's is
    installed. For ARM64 the same file does: types have the same sizes, and the limited API depends
    on nothing else of it."""
    own = Path(sysconfig.get_path("include"))
    for_host = Path("/usr/include", sysconfig.get_config_var("MULTIARCH") or "", own.name)
    for_target = Path("/usr/include", f"{MACHINE}-linux-gnu", own.name, "pyconfig.h")
    if not (for_host / "pyconfig.h").exists() or for_target.exists():
        return {}
    made = FOLDER / "include" / f"{MACHINE}-linux-gnu" / own.name
    made.mkdir(parents=True, exist_ok=True)
    shutil.copy(for_host / "pyconfig.h", made)
    return {"CPATH": str(FOLDER / "include")}


def install(wheel: Path, folder: Path) -> None:
    """Installs the wheel, what it needs and what its tests need, all of them wheels for ARM64."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    command += ["--target", str(folder), "--python-version", PYTHON, "--implementation", "cp"]
    platforms = [f"linux_{MACHINE}", *(f"manylinux_2_{minor}_{MACHINE}" for minor in GLIBC)]
    platforms.append(f"manylinux2014_{MACHINE}")
    command += [part for name in platforms for part in ("--platform", name)]
    subprocess.run([*command, str(wheel), *TEST_PACKAGES], check=True)


def test(wheel: Path, chosen: Sequence[str]) -> int:
    """Runs the tests in the userland; returns pytest's exit code.

    Raises UserlandError, CalledProcessError.
    """
    root = FOLDER / "userland"
    userland.make(root, "arm64", PACKAGES)
    userland.register_qemu()
    packages = FOLDER / "packages"
    install(wheel, packages)
    cpuinfo = FOLDER / "cpuinfo"
    cpuinfo.write_text(CPUINFO, encoding="utf-8")
    # The sources are left out: the tests would import them rather than the wheel.
    shared = ["tests", "tools", "benchmarks", "pyproject.toml", "models", "vendor/llama.cpp"]
    binds = [userland.Bind((ROOT / name).resolve(), f"/checkout/{name}") for name in shared]
    (FOLDER / "models").mkdir(exist_ok=True)
    binds += [
        userland.Bind(packages, "/packages"),
        userland.Bind(FOLDER / "models", "/checkout/build/test-models", writable=True),
        userland.Bind(cpuinfo, "/proc/cpuinfo"),
    ]
    environment = {
        **userland.ENVIRONMENT,
        "PYTHONPATH": "/packages",
        "PYTHONDONTWRITEBYTECODE": "1",
        "QEMU_CPU": QEMU_CPU,
    }
    pytest = ["python3", "-m", "pytest", "-p", "no:cacheprovider", "--timeout=1800"]
    command = userland.command(
        root,
        [*pytest, *chosen],
        environment=environment,
        folder="/checkout",
        binds=binds,
    )
    return subprocess.run(command, check=False).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if all went well."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.arm64",
        description="Build the wheel for Linux on ARM64, and test it under qemu-user.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("what", choices=["build", "test"])
    parser.add_argument(
        "tests", nargs="*", help="files of tests, or options of pytest behind -- (default: all)"
    )
    given = parser.parse_args(arguments)
    try:
        wheel = build()
        print(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size / 1e6:.2f} MB", flush=True)
        chosen = given.tests or [*TESTS, *(f"--deselect={name}" for name in LEFT_OUT)]
        return test(wheel, chosen) if given.what == "test" else 0
    except (Arm64Error, userland.UserlandError) as error:
        print(error, file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd[:5])} ... failed; the reason is above.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
