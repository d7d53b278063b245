"""Opens the store that the settings name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import StoreError
from .base import Record, Store
from .database import Database
from .files import UnfitError, prepare
from .memory import MemoryStore

log = logging.getLogger(__name__)


def open_store(
    path: Path | None,
    *,
    days: int,
    megabytes: int,
    interrupted: Callable[[Record], Record],
    now: Callable[[], float] = time.time,
) -> Store:
    """Opens the store in a file, made if there is none, or one in memory without a path.

    Records that the last server left running are replaced by what `interrupted` makes of them.
    Raises StoreError, whose message names LLM_STORE and the file.
    """
    if path is None:
        return MemoryStore(days=days, megabytes=megabytes, now=now)
    database: Database | None = None
    try:
        prepare(path)
        database = Database(path, days=days, megabytes=megabytes, now=now)
        n_interrupted = database.interrupt(interrupted)
    except UnfitError as error:
        if database is not None:
            database.close()
        raise StoreError(f"LLM_STORE is {str(path)!r}, which {error}.") from None
    if n_interrupted:
        log.warning("%d stored responses were left unfinished: they have failed", n_interrupted)
    return database
