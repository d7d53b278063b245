"""Keeps a folder of files within its bound: the least recently used ones go first. Knows sizes and
times; several processes may do so in one folder."""

from __future__ import annotations

import logging
import re
import threading
import time

from .folder import Entry, Folder

log = logging.getLogger(__name__)

LEFT = 0.9
"""How much of the bound is still used after files have gone."""
PAUSE_S = 0.005
"""Between two folders that are looked through, for others who want the processor."""
AGAIN_S = 600.0
"""What other processes wrote is counted when a look is this old."""

_OUR_FOLDER = re.compile(r"n?[0-9a-f]{2}")
_OUR_FILE = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}-[0-9]{3}-[0-9a-f]{16}\.kv")


class Room:
    """The bytes in use. Thread-safe. Looks run on the thread that calls, and take a while."""

    def __init__(self, folder: Folder, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()
        self._used = 0
        self._n_files = 0
        self._n_evicted = 0
        self._looked = -AGAIN_S

    @property
    def used(self) -> int:
        """Bytes of all files, as far as known."""
        return self._used

    @property
    def n_files(self) -> int:
        return self._n_files

    @property
    def n_evicted(self) -> int:
        """How many files have gone for want of room."""
        return self._n_evicted

    @property
    def is_due(self) -> bool:
        """Whether it is time for a look."""
        return self._used > self._limit or time.monotonic() - self._looked > AGAIN_S

    def added(self, n_bytes: int, n_files: int = 1) -> None:
        """Counts files that were written, or removed where the numbers are negative."""
        with self._lock:
            self._used += n_bytes
            self._n_files += n_files

    def look(self) -> None:
        """Counts all blocks and notes, and removes the oldest ones if they are too many; whatever
        else is in the folder is somebody else's. Raises OSError."""
        self._looked = time.monotonic()
        entries: list[Entry] = []
        for folder in filter(_OUR_FOLDER.fullmatch, self._folder.folders()):
            found = self._folder.entries(folder, time.time())
            entries += (each for each in found if _OUR_FILE.fullmatch(each.name))
            time.sleep(PAUSE_S)
        used = sum(entry.size for entry in entries)
        n_files = len(entries)
        if used > self._limit:
            entries.sort(key=lambda entry: entry.used)
            for entry in entries:
                if used <= LEFT * self._limit:
                    break
                self._folder.remove(entry.folder, entry.name)
                used -= entry.size
                n_files -= 1
                self._n_evicted += 1
        with self._lock:
            self._used, self._n_files = used, n_files
