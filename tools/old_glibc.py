"""Unpacks the headers and libraries of Debian 11 into a folder.

With them this machine's gcc makes libraries that run with glibc 2.31 (cmake/old_glibc.cmake).
Needs Debian's debootstrap and dpkg-deb, and root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
