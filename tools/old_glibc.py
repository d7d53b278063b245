"""`python -m tools.old_glibc FOLDER`: unpacks the headers and libraries of Debian 11 into a folder.

With them this machine's gcc makes libraries that run with glibc 2.31 (cmake/old_glibc.cmake).
Needs Debian's debootstrap and dpkg-deb, and root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sheily_server.version import ShowVersion

SUITE = "bullseye"
PACKAGES = ("libc6-dev", "libstdc++-10-dev", "libgcc-10-dev", "libgomp1", "linux-libc-dev")
COMPLETE = ".complete"


def unpack(folder: Path) -> None:
    """Makes `folder` a sysroot, unless it is one. Raises OSError and CalledProcessError."""
    if (folder / COMPLETE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    include = f"--include={','.join(PACKAGES)}"
    debootstrap = ["debootstrap", "--foreign", "--variant=minbase", include, SUITE, str(folder)]
    subprocess.run(debootstrap, check=True, stdout=sys.stderr)
    for package in sorted(folder.glob("var/cache/apt/archives/*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    shutil.rmtree(folder / "var")
    _make_links_relative(folder)
    (folder / COMPLETE).touch()


def _make_links_relative(folder: Path) -> None:
    """An absolute link would lead out of the folder, to this machine's own libraries."""
    for path in folder.rglob("*"):
        if path.is_symlink() and os.path.isabs(target := os.readlink(path)):
            path.unlink()
            path.symlink_to(os.path.relpath(folder / target.lstrip("/"), path.parent))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1, with a sentence, if it cannot be made here."""
    parser = argparse.ArgumentParser(prog="python -m tools.old_glibc", description=__doc__)
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder.absolute()
    try:
        unpack(folder)
    except FileNotFoundError as error:
        print(f"{error.filename} is missing: apt install debootstrap dpkg", file=sys.stderr)
        return 1
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{folder} could not be made: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
