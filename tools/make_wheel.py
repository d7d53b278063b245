"""`python -m tools.make_wheel`: makes one wheel for every x86-64 Linux, with several builds in it.

Each build is compiled for a level of x86-64; sheily_native/build.py chooses the one that is loaded.
llama.cpp's code for most formats is compiled for one instruction set, unlike our own kernels, which
are chosen at run time in each build.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sheily_server.version import ShowVersion
from tools import old_glibc

ROOT = Path(__file__).resolve().parent.parent
BUILDS: Mapping[str, Mapping[str, str]] = {
    # The first is the one that Python finds by its name: it runs on the most CPUs.
    "v2": {"AVX": "OFF", "AVX2": "OFF", "FMA": "OFF", "F16C": "OFF", "BMI2": "OFF"},
    "v3": {},
    "v4": {"AVX512": "ON", "AVX512_VNNI": "ON"},
}
"""Names and build options (GGML_...). v4 is x86-64-v4 with VNNI, which Q8_0 and Q4 formats use."""
OPTIONS = frozenset(name for options in BUILDS.values() for name in options)
LIBGOMP = "usr/lib/x86_64-linux-gnu/libgomp.so.1"
LIBGOMP_LICENSES = (
    "usr/share/doc/libgomp1/copyright",
    "usr/share/licenses/libgomp/COPYING.RUNTIME",
)


class WheelError(Exception):
    """The wheel could not be made; the message is one sentence."""


def build(name: str, folder: Path, sysroot: Path | None) -> Path:
    """Compiles one build and returns its wheel. All builds share `folder`/build, so what does not
    depend on instruction sets is compiled once."""
    defines = {f"GGML_{option}": "" for option in OPTIONS}
    defines |= {"SHEILY_BUILD": name, "GGML_NATIVE": "OFF"}
    defines |= {f"GGML_{option}": value for option, value in BUILDS[name].items()}
    if sysroot is not None:
        defines["CMAKE_TOOLCHAIN_FILE"] = str(ROOT / "cmake" / "old_glibc.cmake")
        defines["SHEILY_SYSROOT"] = str(sysroot)
    made = folder / name
    shutil.rmtree(made, ignore_errors=True)
    # CMake remembers options that are no longer given.
    (folder / "build" / "CMakeCache.txt").unlink(missing_ok=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "."]
    command += ["--verbose", "-w", str(made), "-C", f"build-dir={folder / 'build'}"]
    command += [f"-Ccmake.define.{key}={value}" for key, value in defines.items() if value]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = made.glob("*.whl")
    return wheel


def merge(wheels: Mapping[str, Path], folder: Path, license_of_libgomp: Path) -> Path:
    """Puts the further builds into the first one's wheel; returns the new one."""
    first, *further = wheels
    for name, wheel in wheels.items():
        shutil.rmtree(folder / f"{name}-unpacked", ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / f"{name}-unpacked")
    package = folder / f"{first}-unpacked" / "sheily_native"
    for name in further:
        target = package / "builds" / name
        target.mkdir(parents=True)
        source = folder / f"{name}-unpacked" / "sheily_native"
        for file in (*source.glob("_native.*.so"), source / "build_info.json"):
            shutil.copy(file, target)
    shutil.copy(license_of_libgomp, package / "LICENSE.libgomp.txt")
    merged = folder / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir()
    command = [sys.executable, "-m", "wheel", "pack", str(package.parent), "-d", str(merged)]
    subprocess.run(command, check=True)
    (wheel,) = merged.glob("*.whl")
    return wheel


def repair(wheel: Path, dist: Path, sysroot: Path | None) -> Path:
    """Gives the wheel the lowest manylinux tag that it fits, with libgomp in it."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if sysroot is not None:
        # Alone in its folder: Python itself could not run with the other libraries of the sysroot.
        alone = wheel.parent / "libgomp"
        alone.mkdir()
        shutil.copy(sysroot / LIBGOMP, alone)
        environment["LD_LIBRARY_PATH"] = str(alone)
    made = wheel.parent / "repaired"
    command = [sys.executable, "-m", "auditwheel", "repair", "--only-plat", str(wheel)]
    subprocess.run([*command, "-w", str(made)], env=environment, check=True)
    (repaired,) = made.glob("*.whl")
    dist.mkdir(exist_ok=True)
    shutil.copy(repaired, dist)
    return dist / repaired.name


def license_of_libgomp(sysroot: Path | None) -> Path:
    for name in LIBGOMP_LICENSES:
        found = (sysroot or Path("/")) / name
        if found.is_file():
            return found
    raise WheelError(f"the licence of libgomp is in none of {', '.join(LIBGOMP_LICENSES)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the wheel's path; exit code 1, with a sentence, if it cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_wheel", description=__doc__)
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "wheel")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    parser.add_argument(
        "--old-glibc",
        action="store_true",
        help="compile against Debian 11's glibc 2.31, for a wheel that older systems take too",
    )
    given = parser.parse_args(arguments)
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sysroot = folder / "sysroot" if given.old_glibc else None
    try:
        if sysroot is not None:
            old_glibc.unpack(sysroot)
        wheels = {name: build(name, folder, sysroot) for name in BUILDS}
        merged = merge(wheels, folder, license_of_libgomp(sysroot))
        print(repair(merged, given.dist.absolute(), sysroot))
    except FileNotFoundError as error:
        print(f"{error.filename} is missing: apt install debootstrap dpkg", file=sys.stderr)
        return 1
    except (WheelError, OSError, subprocess.CalledProcessError) as error:
        print(f"the wheel could not be made: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
