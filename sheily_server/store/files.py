"""Whether a file may hold the store: whose it is, who else can reach it, whose format it has.

Makes the file where there is none. The messages of its errors are the ends of sentences.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

APPLICATION_ID = 0x5348_4C59
"""In the header of our databases: "SHLY"."""
LOG, OTHERS = "-wal", ("-wal", "-shm", "-journal")
"""What SQLite adds to the database's name for the files beside it."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES, _APPLICATION_ID_AT = 100, 68
"""https://www.sqlite.org/fileformat.html, "The Database Header"."""


class UnfitError(Exception):
    """The file cannot hold the store. The message says why, without the file's name."""


def prepare(path: Path) -> None:
    """Makes the file if there is none, and checks it and its folder. Raises UnfitError.

    The file is only looked at: where it is another program's, nothing in it has changed.
    """
    try:
        _check_folder(path.parent)
        if not _make(path):
            _check_file(path)
            _check_format(path)
        check_beside(path)
    except OSError as error:
        raise UnfitError(f"cannot be used ({error.strerror})") from None


def check_beside(path: Path) -> None:
    """Checks the files that SQLite has beside the database, which are as secret. Raises
    UnfitError."""
    for suffix in OTHERS:
        beside = path.with_name(path.name + suffix)
        try:
            _check_file(beside)
        except FileNotFoundError:
            continue
        except UnfitError as error:
            raise UnfitError(f"has a file {beside.name} beside it, which {error}") from None


def _check_folder(folder: Path) -> None:
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        raise UnfitError(f"is in a folder that does not exist: make {str(folder)!r}") from None
    if not stat.S_ISDIR(mode):
        raise UnfitError(f"is in {str(folder)!r}, which is not a folder")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UnfitError(
            f"is in {str(folder)!r}, where every user may put another file in its place: "
            "chmod o-w would end that"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnfitError(f"is in {str(folder)!r}, where this user may make no files")


def _make(path: Path) -> bool:
    """Makes an empty file that its owner alone may open. Returns whether there was none."""
    try:
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    try:
        os.fchmod(made, 0o600)  # whatever the umask is
        shared = os.fstat(made).st_mode & 0o077
    finally:
        os.close(made)
    if shared:
        path.unlink()
        raise UnfitError("is in a file system that keeps no modes: others could read it")
    return True


def _check_file(path: Path) -> None:
    """Raises UnfitError for what is not a file that this user alone may open, FileNotFoundError
    where there is nothing."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise UnfitError("is a symbolic link: name the file itself")
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "device, pipe or socket"
        raise UnfitError(f"is a {kind}, not a file")
    if found.st_uid != os.geteuid():
        raise UnfitError(f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & 0o077:
        raise UnfitError(
            f"may be opened by {_openers(found.st_mode)} (its mode is "
            f"{stat.S_IMODE(found.st_mode):04o}): chmod 600 would end that"
        )


def _openers(mode: int) -> str:
    group, everyone = mode & 0o070, mode & 0o007
    if group and everyone:
        return "its group and every user"
    return "its group" if group else "every user"


def _check_format(path: Path) -> None:
    """Raises UnfitError for what is neither empty nor a database of ours, or its beginning.

    Closing the file would drop the locks that SQLite has on it in this process: a store that is
    open is not opened twice in one process.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        page = 256 * header[16] + header[17] if len(header) == _HEADER_BYTES else 0
        one_page = os.fstat(file.fileno()).st_size <= page
    if not header:
        return
    if not header.startswith(_MAGIC):
        raise UnfitError("is not an SQLite database: it is another program's file, or damaged")
    place = slice(_APPLICATION_ID_AT, _APPLICATION_ID_AT + 4)
    id = int.from_bytes(header[place], "big")
    # A server that was killed while it made the database may have left a page without tables.
    if id != APPLICATION_ID and not (id == 0 and one_page):
        raise UnfitError("is the SQLite database of another program")
