"""What can happen to the files of a cache directory while servers use it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from types import MappingProxyType

_MOST_FILES = 8


def files_of(folder: Path) -> list[Path]:
    """Those that are there; servers make and delete some meanwhile."""
    found: list[Path] = []
    for parent, _, names in os.walk(folder):
        found += [Path(parent) / name for name in names]
    return sorted(found)


def _in_place(path: Path, change: Callable[[bytearray], object]) -> None:
    """Writes the changed bytes where they stand, as a broken disk would."""
    with path.open("r+b") as file:
        data = bytearray(file.read())
        change(data)
        file.seek(0)
        file.write(data)
        file.truncate()


def _flip(path: Path, choose: Random) -> None:
    def one(data: bytearray) -> None:
        if data:
            data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)

    _in_place(path, one)


def _cut(path: Path, choose: Random) -> None:
    os.truncate(path, choose.randrange(max(path.stat().st_size, 1)))


def _lengthen(path: Path, choose: Random) -> None:
    with path.open("ab") as file:
        file.write(choose.randbytes(choose.randrange(1, 5000)))


def _noise(path: Path, choose: Random) -> None:
    def all_of_it(data: bytearray) -> None:
        data[:] = choose.randbytes(len(data))

    _in_place(path, all_of_it)


def _others(path: Path) -> list[Path]:
    """The files of all blocks, this one among them."""
    return [each for each in files_of(path.parents[1]) if _is_whole(each)]


def _foreign(path: Path, choose: Random) -> None:
    """The whole and right file of another block, by this name."""
    data = choose.choice(_others(path)).read_bytes()
    fresh = path.with_name(f".{path.name}.foreign")
    fresh.write_bytes(data)
    fresh.replace(path)


def _folder(path: Path, choose: Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, choose: Random) -> None:
    """To a right block's file, of which nobody knows who may write it."""
    other = choose.choice(_others(path))
    path.unlink()
    path.symlink_to(other)


def _pipe(path: Path, choose: Random) -> None:
    """Who opens it would wait for ever."""
    path.unlink()
    os.mkfifo(path)


def _gone(path: Path, choose: Random) -> None:
    path.unlink()


def _forbidden(path: Path, choose: Random) -> None:
    path.chmod(0)


ONE_FILE: Mapping[str, Callable[[Path, Random], None]] = MappingProxyType(
    {
        "a bit flipped": _flip,
        "cut off": _cut,
        "longer": _lengthen,
        "noise": _noise,
        "another block's": _foreign,
        "a folder": _folder,
        "a link": _link,
        "a pipe": _pipe,
        "gone": _gone,
        "forbidden": _forbidden,
    }
)
DIRECTORY_GONE = "the directory gone"
WAYS = (*ONE_FILE, DIRECTORY_GONE)


def _is_whole(path: Path) -> bool:
    """Whether it is still a file, and no link or pipe."""
    with contextlib.suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def damage(folder: Path, way: str, choose: Random) -> int:
    """Does that to a few files, or to the directory; how many there were to do it to."""
    if way == DIRECTORY_GONE:
        n_files = len(files_of(folder))
        shutil.rmtree(folder, ignore_errors=True)  # one is written meanwhile
        return n_files
    done = 0
    found = [path for path in files_of(folder) if _is_whole(path)]
    for path in choose.sample(found, min(len(found), choose.randrange(1, _MOST_FILES))):
        with contextlib.suppress(OSError):  # it is gone by now
            ONE_FILE[way](path, choose)
            done += 1
    return done
