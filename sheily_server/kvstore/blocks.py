"""The blocks of a folder: looked for, read with every doubt, and written. Knows tokens, keys and
bytes of cells."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from . import files
from .folder import Folder
from .keys import BLOCK, Span, folder_of, mark_of, parsed, tail
from .room import Room

log = logging.getLogger(__name__)

LEAST_TAIL = 16
"""Tokens of a tail that is worth a file."""
MOST_NAMES = 2500
"""A folder with more files than this is not looked through, as that takes a millisecond."""
MOST_LOOKED_INTO = 32
"""Files whose tokens are compared to find the one that has most of a prompt's."""


def _possible(left: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Yields the lengths and marks that files may have, from the longest."""
    for n in range(min(len(left), BLOCK - 1), LEAST_TAIL - 1, -1):
        yield n, mark_of(left[:n])


class Blocks:
    """The files of blocks and tails. Thread-safe. Whatever goes wrong with a file is a miss: it is
    counted, logged once of its kind, and never raised."""

    def __init__(self, folder: Folder, room: Room) -> None:
        self._folder = folder
        self._room = room
        self._told: set[str] = set()
        self.n_errors = 0

    def has(self, span: Span) -> bool:
        try:
            return self._folder.exists(span.folder, span.name)
        except OSError as error:
            self._note("looked for", error)
            return False

    def longest(self, parent: bytes, tokens: Sequence[int], begin: int) -> tuple[Span, int] | None:
        """Returns the file behind the block `parent` that has most of what `tokens` go on with at
        `begin`, and where they part; None if none has at least LEAST_TAIL."""
        left = tokens[begin:]
        best: Span | None = None
        until = begin + LEAST_TAIL - 1
        longer: list[tuple[int, bytes]] = []
        names, is_all = self._behind(parent)
        for n, mark in names if is_all else _possible(left):
            if n > len(left):
                longer.append((n, mark))
            elif begin + n > until and mark_of(left[:n]) == mark:
                span = Span(begin, begin + n, parent, mark)
                if is_all or self.has(span):
                    best, until = span, begin + n
        for n, mark in [*longer, *((n, m) for n, m in names if n <= len(left))][:MOST_LOOKED_INTO]:
            span = Span(begin, begin + n, parent, mark)
            same = begin + self._common(span, left)
            if same > until:
                best, until = span, same
        return None if best is None else (best, until)

    def read(self, span: Span, root: bytes, tokens: Sequence[int], cells: memoryview) -> bool:
        """Reads the cells of a file whose tokens begin with all of `tokens` that there are; returns
        whether it is there and beyond doubt. One that is not goes."""
        before = bytearray(files.length_before_cells(span.end - span.begin))
        try:
            self._folder.read_into(span.folder, span.name, [memoryview(before), cells])
            problem = files.problem(before, span, root, tokens, cells)
        except FileNotFoundError:
            return False
        except ValueError as error:
            problem = str(error)
        except OSError as error:
            self._note("read", error)
            return False
        if problem is None:
            return True
        self._note("used", ValueError(problem))
        self._remove(span.folder, span.name)
        return False

    def write(self, span: Span, root: bytes, tokens: Sequence[int], cells: memoryview) -> bool:
        """Writes a part of `tokens`, and removes the tails that it takes the place of. Returns
        whether it was written."""
        try:
            before = files.before_cells(span, root, tokens, cells)
            size = self._folder.write(span.folder, span.name, before, cells)
        except OSError as error:
            self._note("written", error)
            return False
        self._room.added(size)
        self._replace_tails(span, tokens)
        return True

    def touch(self, spans: Sequence[Span]) -> None:
        """Marks files as used, the last ones first: so that they go before those they follow."""
        for span in reversed(spans):
            try:
                self._folder.touch(span.folder, span.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._note("marked as used", error)

    def _replace_tails(self, span: Span, tokens: Sequence[int]) -> None:
        for n, mark in self._behind(span.parent)[0]:
            shorter = span.begin + n < span.end
            if shorter and mark_of(tokens[span.begin : span.begin + n]) == mark:
                old = tail(span.parent, tokens, span.begin, span.begin + n)
                self._remove(old.folder, old.name)

    def _behind(self, parent: bytes) -> tuple[list[tuple[int, bytes]], bool]:
        """Returns the lengths and marks of the files behind a block, and whether these are all: a
        folder with very many files is not looked through."""
        try:
            names = self._folder.names(folder_of(parent), MOST_NAMES + 1)
        except OSError as error:
            self._note("looked for", error)
            return [], True
        found = (parsed(name, parent) for name in names)
        return [each for each in found if each is not None], len(names) <= MOST_NAMES

    def _common(self, span: Span, left: Sequence[int]) -> int:
        """Returns how many tokens of a file are the next ones."""
        try:
            data = self._folder.read_head(
                span.folder, span.name, files.length_before_cells(span.end - span.begin)
            )
        except OSError:
            return 0
        ids = files.tokens_of(data[: len(data) - len(data) % 4])
        return next(
            (i for i, (a, b) in enumerate(zip(ids, left, strict=False)) if a != b),
            min(len(ids), len(left)),
        )

    def _remove(self, folder: str, name: str) -> None:
        try:
            self._folder.remove(folder, name)
        except OSError as error:
            self._note("removed", error)

    def _note(self, what: str, error: Exception) -> None:
        self.n_errors += 1
        kind = f"{what}: {getattr(error, 'strerror', None) or error}"
        level = logging.DEBUG if kind in self._told else logging.WARNING
        self._told.add(kind)
        log.log(level, "a block of the prefix cache cannot be %s", kind)
