"""A folder of ours, in which files are written whole or not at all. Knows names and bytes, and that
others may change or remove anything at any time.

Everything is opened relative to the folder's descriptor, and no link is followed. Folders are for
this user alone (0700), and so are files (0600).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TAG = "CACHEDIR.TAG"
_TAG_TEXT = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This folder is a cache of SHEILY's LLM server. See https://bford.info/cachedir/\n"
)
_TEMPORARY = re.compile(r"\.[0-9]+-[0-9]+\.tmp")
OLD_S = 3600.0
"""A temporary file of this age belongs to nobody any more."""


class UnsafeFolderError(ValueError):
    """Raised for a folder that cannot be used. The message goes on behind the setting's name."""


class Entry(NamedTuple):
    """A file: its folder's name, its own, its size in bytes, and when it was used last."""

    folder: str
    name: str
    size: int
    used: float


class Folder:
    """One level of folders with files in them. Thread-safe; may be shared by several processes.

    Methods raise OSError. A file that is not there is a FileNotFoundError.
    """

    def __init__(self, path: Path) -> None:
        """Makes the folder if there is none. Raises UnsafeFolderError."""
        self._path = path
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        try:
            self._root = _open_root(path)
            self._tag()
        except OSError as error:
            reason = error.strerror or str(error)
            raise UnsafeFolderError(f"is {path}, which cannot be used: {reason}") from None

    def read_into(self, folder: str, name: str, parts: list[memoryview]) -> None:
        """Reads a file of exactly as many bytes as the parts have together. Raises ValueError for
        any other."""
        with self._opened(folder) as parent:
            file = os.open(name, _READ, dir_fd=parent)
            try:
                found = os.fstat(file)
                if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                    raise ValueError("is not a file of ours")
                if found.st_size != sum(part.nbytes for part in parts):
                    raise ValueError("has another size")
                _fill(file, [part.cast("B") for part in parts])
            finally:
                os.close(file)

    def read(self, folder: str, name: str, most: int) -> bytes:
        """Returns a file's content. Raises ValueError for one of more than `most` bytes."""
        with self._opened(folder) as parent:
            file = os.open(name, _READ, dir_fd=parent)
            try:
                data = os.read(file, most + 1)
            finally:
                os.close(file)
        if len(data) > most:
            raise ValueError("is too large")
        return data

    def read_head(self, folder: str, name: str, n_bytes: int) -> bytes:
        """Returns the first bytes of a file; fewer of a shorter one."""
        with self._opened(folder) as parent:
            file = os.open(name, _READ, dir_fd=parent)
            try:
                return os.read(file, n_bytes)
            finally:
                os.close(file)

    def write(self, folder: str, name: str, *parts: bytes | memoryview) -> int:
        """Writes a file whole or not at all; returns its size in bytes."""
        temporary = f".{os.getpid()}-{next(self._numbers)}.tmp"
        with self._opened(folder, make=True) as parent:
            file = os.open(temporary, _WRITE, 0o600, dir_fd=parent)
            try:
                try:
                    size = sum(_write_all(file, memoryview(part).cast("B")) for part in parts)
                finally:
                    os.close(file)
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise
        return size

    def touch(self, folder: str, name: str) -> None:
        """Marks a file as used now."""
        with self._opened(folder) as parent:
            os.utime(name, dir_fd=parent, follow_symlinks=False)

    def remove(self, folder: str, name: str) -> bool:
        """Removes a file; returns whether it was there."""
        try:
            with self._opened(folder) as parent:
                os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return False
        return True

    def exists(self, folder: str, name: str) -> bool:
        try:
            with self._opened(folder) as parent:
                return stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def names(self, folder: str, most: int | None = None) -> list[str]:
        """Returns the names of a folder's files, or `most` of them; none of a folder that is not
        there."""
        try:
            with self._opened(folder) as parent, os.scandir(parent) as found:
                return [each.name for each in itertools.islice(found, most)]
        except FileNotFoundError:
            return []

    def folders(self) -> list[str]:
        with self._lock:
            root = self._live_root()
            return [name for name in os.listdir(root) if name != TAG]

    def entries(self, folder: str, now: float) -> Iterator[Entry]:
        """Yields a folder's files. Removes what was left half written an hour before `now`."""
        try:
            with self._opened(folder) as parent, os.scandir(parent) as found:
                for each in found:
                    with contextlib.suppress(OSError):
                        status = each.stat(follow_symlinks=False)
                        if not stat.S_ISREG(status.st_mode):
                            continue
                        if _TEMPORARY.fullmatch(each.name):
                            if now - status.st_mtime > OLD_S:
                                os.unlink(each.name, dir_fd=parent)
                            continue
                        yield Entry(folder, each.name, status.st_size, status.st_mtime)
        except FileNotFoundError:
            return

    @contextlib.contextmanager
    def _opened(self, folder: str, make: bool = False) -> Iterator[int]:
        with self._lock:
            root = self._live_root()
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o700, dir_fd=root)
            parent = os.open(folder, _FOLDER, dir_fd=root)
        try:
            yield parent
        finally:
            os.close(parent)

    def _live_root(self) -> int:
        """Returns the descriptor; of a new folder where ours was removed."""
        if os.fstat(self._root).st_nlink == 0:
            try:
                found = _open_root(self._path)
            except UnsafeFolderError as error:
                raise OSError(errno.EACCES, str(error)) from None
            os.close(self._root)
            self._root = found
            self._tag()
        return self._root

    def _tag(self) -> None:
        """Tells programs for backups that this is a cache."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with contextlib.suppress(FileExistsError):
            file = os.open(TAG, flags, 0o600, dir_fd=self._root)
            try:
                os.write(file, _TAG_TEXT)
            finally:
                os.close(file)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def _open_root(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o700)
    try:
        root = os.open(path, _FOLDER)
    except NotADirectoryError:
        what = "a link" if path.is_symlink() else "a file"
        raise UnsafeFolderError(f"is {path}, {what}, where a folder is wanted") from None
    found = os.fstat(root)
    problem = None
    if found.st_uid != os.geteuid():
        problem = "belongs to another user"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = "may be written to by others: chmod 700 would end that"
    if problem is not None:
        os.close(root)
        raise UnsafeFolderError(f"is {path}, which {problem}")
    return root


def _fill(file: int, parts: list[memoryview]) -> None:
    for part in parts:
        n = 0
        while n < part.nbytes:
            more = os.readv(file, [part[n:]])
            if not more:
                raise ValueError("ends early")
            n += more


def _write_all(file: int, data: memoryview) -> int:
    n = 0
    while n < data.nbytes:
        n += os.write(file, data[n:])
    return n
