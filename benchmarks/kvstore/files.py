"""The files of a cache directory: their bytes, and whether the kernel has them in memory. Linux."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PIECE = 1 << 20
_STILL_S = 3.0


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A folder for a cache directory, gone afterwards."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-kvstore-", dir=parent) as folder:
        yield Path(folder)


def inside(folder: Path) -> set[Path]:
    """All files below it."""
    return {path for path in folder.rglob("*") if path.is_file()}


def wait_until_still(folder: Path) -> None:
    """Until nothing has come for some seconds, as a busy machine writes slowly."""
    before, found = set[Path](), inside(folder)
    while before != found:
        time.sleep(_STILL_S)
        before, found = found, inside(folder)


def replace(folder: Path, by: Path) -> None:
    """Gives a folder the content of another one."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(by, folder, dirs_exist_ok=True)


def total_bytes(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def read(files: Iterable[Path]) -> float:
    """Reads all of them, one after the other, so that the kernel has them; the seconds it took."""
    buffer = bytearray(_PIECE)
    began = time.monotonic()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.monotonic() - began


def forget(files: Iterable[Path]) -> None:
    """Makes the kernel drop its copy of them, so that who reads them waits for the disk."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a page that is not written yet would stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
