"""What the engine thread and the threads of the disk give to each other; data, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...kvstore.keys import Span
from ..kvcache.answer_ids import Note
from ..scheduling.sequence import TokenSequence

Cells = npt.NDArray[np.uint8]
"""The cells of a part of a sequence, as `Context.save` makes them."""


@dataclass(eq=False, slots=True)
class Load:
    """Sequences with one prompt that wait for what the disk has of it.

    `tokens` may be shared with others, and the first `begin` of them are in the KV cache already.
    `chain` are the files that have them up to `until`, from the first; those from `first` on are
    read. The last one may have more tokens, which are others. `due` is when the next one is given
    up, in time.monotonic().
    """

    sequences: Sequence[TokenSequence]
    root: bytes
    tokens: list[int]
    begin: int
    chain: list[Span] = field(default_factory=list)
    first: int = 0
    until: int = 0
    probed: bool = False
    reading: bool = False
    over: bool = False
    due: float = 0.0

    @property
    def leader(self) -> TokenSequence | None:
        """The sequence that takes the cells, from which the others get them."""
        return next((each for each in self.sequences if each.slot is not None), None)


@dataclass(frozen=True, slots=True)
class Probed:
    """It is known what there is."""

    load: Load


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file was read; without cells where it was not there or not to be trusted, or nothing more
    comes."""

    load: Load
    span: Span | None = None
    cells: Cells | None = None


@dataclass(eq=False, slots=True)
class Finished:
    """Tokens that were computed, to be written as far as they are not there yet. Those before
    `written` are there. `owner` says whose they are, as kvstore/owners.py has it. `note` goes with
    them. `files` are the folders and names of the files that have them so far."""

    root: bytes
    tokens: list[int]
    owner: str
    note: Note | None = None
    written: int = 0
    files: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Want:
    """Cells that are to be written; `Writer.answer` gets them, or None."""

    finished: Finished
    span: Span


@dataclass(frozen=True, slots=True)
class Copied:
    """Cells to be written, at once, as they are about to go."""

    finished: Finished
    span: Span
    cells: Cells


@dataclass(frozen=True, slots=True)
class Forgotten:
    """An owner has ended: what it alone has goes, after all that precedes this."""

    owner: str


Ready = Probed | Arrived | Want
"""What the engine thread gets."""
