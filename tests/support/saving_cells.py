"""Fake cells that can be saved and loaded, and know then what precedes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sheily_server.engine.kvcache.prefix_tree import Operation
from tests.support.fake_cells import Cell, FakeModel

_HEAD = 16


class SavingModel(FakeModel):
    """What the disk tier asks of `Runner`. Saved cells that are loaded behind other tokens than
    they were computed behind fail an assertion."""

    def prepare(self, operations: Sequence[Operation]) -> None:
        self.apply(operations)

    def saved_size(self, n_cells: int) -> int:
        return _HEAD + 4 * n_cells

    def save(self, slot: int, begin: int, end: int, out: npt.NDArray[np.uint8]) -> None:
        tokens = self.tokens(slot)
        assert 0 <= begin < end <= len(tokens)
        data = _mark(tokens[:begin]) + np.array(tokens[begin:end], "<i4").tobytes()
        assert len(out) == len(data) == self.saved_size(end - begin)
        out[:] = np.frombuffer(data, np.uint8)

    def load(
        self, slot: int, begin: int, end: int, data: npt.NDArray[np.uint8], *, keep: int
    ) -> None:
        there = self.tokens(slot)
        assert begin <= len(there) < keep <= end
        assert self.n_used + end - begin <= self.n_cells
        if bytes(data[:_HEAD]) != _mark(there[:begin]):
            raise AssertionError("cells that were computed behind other tokens")
        tokens = np.frombuffer(bytes(data[_HEAD:]), "<i4").tolist()
        assert len(tokens) == end - begin
        assert tokens[: len(there) - begin] == there[begin:]
        self.cells[slot] += [Cell(token) for token in tokens[len(there) - begin : keep - begin]]


def _mark(tokens: Sequence[int]) -> bytes:
    return hashlib.blake2b(np.array(tokens, "<i4").tobytes(), digest_size=_HEAD).digest()
