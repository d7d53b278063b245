"""Opens the disk tier that the settings ask for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ...kvstore.blocks import Blocks
from ...kvstore.folder import Folder, UnsafeFolderError
from ...kvstore.notes import Notes
from ...kvstore.owners import Owners
from ...kvstore.room import Room
from ...protocol.commands import Start
from ..fingerprint import identity
from ..runner import Runner
from ..scheduling.scheduler import Scheduler
from .tier import Tier

log = logging.getLogger(__name__)


MOST_NOTE = 1 << 20
"""Bytes of the ids of an answer."""


def open_folder(start: Start) -> Folder | None:
    """Returns the tier's folder; None without one. A folder that was fine when the server began,
    and is not any more, is told: no answer needs it."""
    if not start.cache_dir:
        return None
    try:
        return Folder(Path(start.cache_dir))
    except UnsafeFolderError as error:
        log.error("nothing is kept on disk: LLM_CACHE_DIR %s", error)
        return None


def notes_in(folder: Folder) -> Notes:
    """Returns the ids of answers that are kept in a folder."""
    return Notes(folder, "answer", MOST_NOTE)


def open_tier(
    folder: Folder | None,
    start: Start,
    runner: Runner,
    scheduler: Scheduler,
    wake: Callable[[], None],
) -> Tier | None:
    """Returns the tier; None without a folder."""
    if folder is None:
        return None
    try:
        model = identity(start.model_path)
    except OSError as error:
        log.error("nothing is kept on disk: the model cannot be read again: %s", error)
        return None
    room = Room(folder, int(start.cache_gb * (1 << 30)))
    return Tier(
        blocks=Blocks(folder, room),
        room=room,
        owners=Owners(folder),
        notes=notes_in(folder),
        identity=f"{model} {runner.kind_of_cells}",
        runner=runner,
        scheduler=scheduler,
        wake=wake,
    )
