"""Which files an answer's conversation is in, so that a deleted answer takes with it those that it
alone has. Knows names of owners and of files."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Sequence

from .folder import Folder

log = logging.getLogger(__name__)

FOLDERS = "owners"
MOST_BYTES = 1 << 20
DAYS_S = 86_400.0
_OWNER = re.compile(r"a?[0-9a-f]{40}")
_PLAIN = re.compile(r"n?[0-9a-f]{2}/[0-9a-f-]+(\.kv)?")


class Owners:
    """A small file for each owner, with the names of the blocks and tails that it has. Thread-safe;
    may be shared by several processes."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._told = False

    def add(self, owner: str, files: Sequence[tuple[str, str]]) -> None:
        """Notes what an owner, by `owner_of`, has, beside what it had. Those without a name, "",
        are told apart by what they have. Files are folders and names."""
        name = owner or "a" + owner_of("/".join(files[-1]))
        try:
            found = self._files(name) | set(files)
            self._folder.write(FOLDERS, name, json.dumps(sorted(found)).encode())
        except OSError as error:
            self._note(error)

    def erase(self, owner: str) -> int:
        """Removes an owner, and the files that no other one has; returns how many of these there
        were."""
        try:
            own = self._files(owner)
            self._folder.remove(FOLDERS, owner)
            if not own:
                return 0
            for name in self._folder.names(FOLDERS):
                own -= self._files(name)
            return sum(self._folder.remove(folder, name) for folder, name in own)
        except OSError as error:
            self._note(error)
            return 0

    def prune(self) -> None:
        """Forgets owners of whose files none is left. Raises OSError."""
        for entry in list(self._folder.entries(FOLDERS, time.time())):
            if time.time() - entry.used < DAYS_S or not _OWNER.fullmatch(entry.name):
                continue
            if not any(self._folder.exists(*each) for each in self._files(entry.name)):
                self._folder.remove(FOLDERS, entry.name)

    def _files(self, name: str) -> set[tuple[str, str]]:
        try:
            data = json.loads(self._folder.read(FOLDERS, name, MOST_BYTES))
            return {(folder, file) for folder, file in data if _is_plain(folder, file)}
        except (FileNotFoundError, ValueError, TypeError):
            return set()

    def _note(self, error: OSError) -> None:
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        log.log(level, "what answers have in the cache cannot be noted: %s", error)


def _is_plain(folder: object, name: object) -> bool:
    """Whether names lead to a block or a note, whoever wrote them."""
    texts = isinstance(folder, str) and isinstance(name, str)
    return texts and bool(_PLAIN.fullmatch(f"{folder}/{name}"))


def owner_of(id: str) -> str:
    """Returns the name of an owner: a hash, as names say nothing to those who read the folder."""
    return hashlib.blake2b(id.encode(), digest_size=20, person=b"sheily owner").hexdigest()
