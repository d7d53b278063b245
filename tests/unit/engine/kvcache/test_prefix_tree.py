"""The prefix tree against cells that are counted: nothing leaked, nothing shared that differs."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sheily_server.engine.kvcache.prefix_tree import TRIM, PrefixTree, common_prefix
from tests.support.fake_cells import FakeCells

N_CELLS, N_SEQUENCES = 40, 6
texts = st.lists(st.integers(0, 2), min_size=1, max_size=12)


class Cache:
    """A tree with its cells."""

    def __init__(self, n_cells: int = N_CELLS, n_sequences: int = N_SEQUENCES) -> None:
        self.tree = PrefixTree(n_cells, n_sequences)
        self.cells = FakeCells(n_cells, n_sequences)
        self.texts: dict[int, list[int]] = {}
        self.n_own: dict[int, int] = {}

    def begin(self, text: list[int]) -> tuple[int, int]:
        """A sequence that joins what is there of a text; its number and how much that was."""
        sequence = self.tree.begin()
        n = self.tree.join(sequence, text)
        self.apply()
        self.texts[sequence] = text[:n]
        self.n_own[sequence] = 0
        return sequence, n

    def compute(self, sequence: int, tokens: list[int], own: bool = False) -> None:
        self.tree.reserve(len(tokens))
        self.apply()
        self.cells.append(sequence, tokens)
        self.texts[sequence] += tokens
        if own:
            self.tree.grow(sequence, len(tokens))
            self.n_own[sequence] += len(tokens)
        else:
            self.tree.extend(sequence, tokens)

    def finish(self, sequence: int) -> None:
        text = self.texts.pop(sequence)
        self.tree.finish(sequence, text[len(text) - self.n_own.pop(sequence) :])
        self.apply()

    def apply(self) -> None:
        self.cells.apply(self.tree.take_operations())

    def say(self, text: list[int]) -> int:
        """Computes a text from beginning to end; how much of it was there."""
        sequence, n = self.begin(text)
        self.compute(sequence, text[n:])
        self.finish(sequence)
        return n


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


@given(st.lists(texts, max_size=3), texts)
def test_the_longest_beginning_is_found(known: list[list[int]], text: list[int]) -> None:
    cache = Cache()
    for other in known:
        cache.say(other)
    longest = max((common_prefix(text, other) for other in known), default=0)
    assert cache.tree.match(text) == longest
    assert cache.say(text) == longest
    assert cache.tree.match(text) == len(text)


def test_a_running_sequence_can_be_joined_while_it_computes() -> None:
    cache = Cache()
    first, _ = cache.begin([1, 2, 3, 4])
    cache.compute(first, [1, 2, 3])
    second, n = cache.begin([1, 2, 9])
    assert n == 2
    cache.compute(first, [4])
    cache.compute(second, [9])
    assert cache.cells.n_used == 5
    assert cache.cells.tokens(first) == [1, 2, 3, 4]
    assert cache.cells.tokens(second) == [1, 2, 9]


def test_what_two_computed_for_themselves_is_kept_once() -> None:
    cache = Cache()
    sequences = [cache.begin([1])[0] for _ in range(2)]
    for sequence in sequences:
        cache.compute(sequence, [5, 6, 7], own=True)
    assert cache.cells.n_used == 6
    cache.finish(sequences[0])
    cache.compute(sequences[1], [8], own=True)
    cache.finish(sequences[1])
    assert cache.cells.n_used == 4
    assert cache.tree.match([5, 6, 7, 8]) == 4


def test_the_leaf_that_was_unused_for_longest_goes_first() -> None:
    cache = Cache(n_cells=9)
    for text in ([1, 1, 1], [2, 2, 2], [1, 1, 5], [3, 3]):
        cache.say(text)
    assert [cache.tree.match(text) for text in ([1, 1, 1], [2, 2, 2])] == [3, 3]
    cache.say([4])  # in place of the last third of 1 1 1, as its beginning is of 1 1 5 too
    assert [cache.tree.match(text) for text in ([1, 1, 1], [1, 1, 5], [2, 2, 2])] == [2, 3, 3]
    cache.say([6])
    assert cache.tree.match([2, 2, 2]) == 0


def test_of_a_long_leaf_the_end_goes() -> None:
    cache = Cache(n_cells=3 * TRIM)
    text = [1] * 3 * TRIM
    cache.say(text)
    cache.say([2])
    assert cache.tree.match(text) == 2 * TRIM
    cache.say([3] * (TRIM + 10))
    assert cache.tree.match(text) == TRIM


def test_a_beginning_that_nobody_goes_on_from_stays() -> None:
    cache = Cache(n_cells=10)
    cache.say([1, 1, 2, 2])
    cache.say([1, 1, 3, 3])
    cache.say([4] * 8)  # both ends went, what they had in common did not
    assert cache.tree.match([1, 1, 2, 2]) == 2
    assert cache.cells.n_used == 10


def test_when_there_are_no_numbers_left_a_leaf_goes() -> None:
    cache = Cache()
    for i in range(N_SEQUENCES + 1):
        cache.say([i, i])
    assert [cache.tree.match([i, i]) for i in range(N_SEQUENCES + 1)] == [0] + [2] * N_SEQUENCES


def test_after_a_reset_nothing_is_there() -> None:
    cache = Cache()
    cache.say([1, 2, 3])
    cache.tree.reset()
    assert cache.tree.match([1, 2, 3]) == 0
    assert cache.tree.n_free == N_CELLS
    assert cache.tree.take_operations() == []


class TreeMachine(RuleBasedStateMachine):
    """Sequences that begin, compute, join and finish in any order."""

    N_RUNNING, MOST = 3, 12

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache()

    @precondition(lambda self: len(self.cache.texts) < self.N_RUNNING)
    @rule(text=texts)
    def begin(self, text: list[int]) -> None:
        sequence, n = self.cache.begin(text)
        assert self.cache.cells.tokens(sequence) == text[:n]

    @precondition(lambda self: self.cache.texts)
    @rule(pick=st.integers(0, 9), text=texts)
    def join(self, pick: int, text: list[int]) -> None:
        sequence = self.pick(pick)
        if not self.cache.n_own[sequence]:
            known = self.cache.texts[sequence]
            n = self.cache.tree.join(sequence, (known + text)[: self.MOST])
            self.cache.apply()
            self.cache.texts[sequence] = (known + text)[:n]

    @precondition(lambda self: self.cache.texts)
    @rule(pick=st.integers(0, 9), tokens=texts, own=st.booleans())
    def compute(self, pick: int, tokens: list[int], own: bool) -> None:
        sequence = self.pick(pick)
        known = self.cache.texts[sequence]
        tokens = tokens[: self.MOST - len(known)]
        own = own or self.cache.n_own[sequence] > 0
        if not own and self.cache.tree.match(known + tokens[:1]) > len(known):
            return  # it would have joined
        if tokens:
            self.cache.compute(sequence, tokens, own)

    @precondition(lambda self: self.cache.texts)
    @rule(pick=st.integers(0, 9))
    def finish(self, pick: int) -> None:
        self.cache.finish(self.pick(pick))

    def pick(self, number: int) -> int:
        return sorted(self.cache.texts)[number % len(self.cache.texts)]

    @invariant()
    def every_running_sequence_has_its_tokens(self) -> None:
        for sequence, text in self.cache.texts.items():
            assert self.cache.cells.tokens(sequence) == text

    @invariant()
    def no_cell_is_lost(self) -> None:
        cells = self.cache.cells
        assert self.cache.tree.n_free == N_CELLS - cells.n_used
        held = {id(cell) for sequence in self.cache.texts for cell in cells.cells[sequence]}
        assert self.cache.tree.n_cached == cells.n_used - len(held)

    @invariant()
    def what_is_kept_can_be_found(self) -> None:
        for sequence in range(N_SEQUENCES):
            if sequence not in self.cache.texts:
                text = self.cache.cells.tokens(sequence)
                assert self.cache.tree.match(text) == len(text)


TreeMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestTreeMachine: Callable[[], object] = TreeMachine.TestCase
