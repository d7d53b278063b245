"""A KV cache of plain lists and a model that is a function of the last tokens, for tests of what
the scheduler plans: every cell is counted, and shared as the real one's are."""

from __future__ import annotations

from collections.abc import Sequence

from sheily_server.engine.kvcache.prefix_tree import Operation, Share
from sheily_server.engine.scheduling.scheduler import Plan
from sheily_server.engine.scheduling.sequence import TokenSequence


class Cell:
    """One token's keys and values."""

    def __init__(self, token: int) -> None:
        self.token = token


class FakeCells:
    """What the native context does with cells. Fails as soon as there are more than `n_cells`."""

    def __init__(self, n_cells: int, n_sequences: int) -> None:
        self.n_cells = n_cells
        self.cells: list[list[Cell]] = [[] for _ in range(n_sequences)]

    @property
    def n_used(self) -> int:
        return len({id(cell) for cells in self.cells for cell in cells})

    def tokens(self, sequence: int) -> list[int]:
        return [cell.token for cell in self.cells[sequence]]

    def apply(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if isinstance(operation, Share):
                source, target, begin, end = operation
                assert source != target
                assert 0 <= begin < end <= len(self.cells[source])
                assert begin <= len(self.cells[target])
                replaced = [cell.token for cell in self.cells[target][begin:end]]
                shared = self.cells[source][begin:end]
                assert replaced == [cell.token for cell in shared][: len(replaced)]
                self.cells[target][begin:end] = shared
            else:
                sequence, length = operation
                assert 0 <= length <= len(self.cells[sequence])
                del self.cells[sequence][length:]

    def append(self, sequence: int, tokens: Sequence[int]) -> None:
        self.cells[sequence] += [Cell(token) for token in tokens]
        assert self.n_used <= self.n_cells


class FakeModel(FakeCells):
    """Computes plans. What it says falls into a cycle soon, so that drafts can be right."""

    def __init__(self, n_cells: int, n_sequences: int) -> None:
        super().__init__(n_cells, n_sequences)
        self.n_computed = 0

    def step(self, plan: Plan) -> list[list[int]]:
        self.apply(plan.operations)
        return [
            self._sample(work.slot, work.tokens, work.drafts, work.samples) for work in plan.work
        ]

    def _sample(
        self, slot: int, tokens: Sequence[int], drafts: Sequence[int], samples: bool
    ) -> list[int]:
        self.append(slot, [*tokens, *drafts])
        self.n_computed += len(tokens) + len(drafts)
        known = self.tokens(slot)
        sampled: list[int] = []
        for i in range(len(drafts) + 1 if samples else 0):
            n = len(known) - len(drafts) + i
            sampled.append(self.next(known[:n]))
            if i < len(drafts) and sampled[-1] != drafts[i]:
                break
        n_wrong = len(drafts) + 1 - len(sampled) if samples else 0
        if n_wrong:
            del self.cells[slot][-n_wrong:]
        return sampled

    @staticmethod
    def next(tokens: Sequence[int]) -> int:
        last = [0, *tokens][-2:]
        return (last[0] * 3 + last[1] * 2 + 1) % 5


def expected(prompt: Sequence[int], n: int) -> list[int]:
    """The n tokens that the fake model says behind a prompt."""
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(FakeModel.next(tokens))
    return tokens[len(prompt) :]


def computed(sequence: TokenSequence) -> list[int]:
    """The tokens that a sequence should have in its cells."""
    return (sequence.prompt + sequence.generated)[: sequence.n_computed]
