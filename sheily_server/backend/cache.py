"""The server process's end of the prefix cache's folder: checked before anything else, erased from,
and noted in. Blocks are the engine's."""

from __future__ import annotations

import threading
import time

from ..config import Config, ConfigError, variable
from ..kvstore.folder import Folder, UnsafeFolderError
from ..kvstore.notes import Notes
from ..kvstore.owners import Owners

AGAIN_S = 2.0
"""What the engine was writing just then is there by then."""


class Cache:
    """The folder that the settings name. Thread-safe."""

    def __init__(self, folder: Folder) -> None:
        self._owners = Owners(folder)
        self.dates = Notes(folder, "date", 16)
        """When conversations began."""

    def erase(self, owner: str) -> None:
        """Erases what an answer, by `kvstore.owners.owner_of`, alone has; on a thread of its
        own."""
        threading.Thread(
            target=self._erase, args=(owner,), name="cache-eraser", daemon=True
        ).start()

    def _erase(self, owner: str) -> None:
        self._owners.erase(owner)
        time.sleep(AGAIN_S)
        self._owners.erase(owner)


def open_cache(config: Config) -> Cache | None:
    """Returns the folder; None if there is to be none. Raises ConfigError for one that cannot be
    used, or not safely."""
    if config.cache_dir is None:
        return None
    try:
        return Cache(Folder(config.cache_dir))
    except UnsafeFolderError as error:
        raise ConfigError(f"{variable('cache_dir')} {error}.") from None
