"""Tracks which token ids the KV cells hold, in a radix tree over everything computed, so that no
prefix is computed twice. Knows token ids and sequence numbers, not the cells themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

TRIM = 256
"""Minimum number of cells to free at once, if a leaf has that many."""


class Share(NamedTuple):
    """Gives native sequence `target` the cells of `source` at positions `begin` to `end` - 1."""

    source: int
    target: int
    begin: int
    end: int


class Truncate(NamedTuple):
    """Keeps only the first `length` cells of a native sequence."""

    sequence: int
    length: int


Operation = Share | Truncate


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Returns how many tokens two sequences begin with in common."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])


@dataclass(eq=False, slots=True)
class _Node:
    """An edge's tokens and what follows them; `end` is the length of the path up to here.

    The cells of `tokens` belong to every native sequence in `sequences` here or below. A leaf has
    at least one. A root has no tokens and no parent, and the key of those who share what is below.
    """

    tokens: list[int]
    end: int
    parent: _Node | None
    children: dict[int, _Node] = field(default_factory=dict)
    sequences: set[int] = field(default_factory=set)
    last_used: int = 0
    key: bytes = b""


class PrefixTree:
    """Owns the cells of the KV cache and the numbers of its native sequences.

    There is a tree for each root: sequences share what they have in common under the same root, and
    nothing with those under another one.

    A running sequence has a number of its own. What it computes goes into the tree at once
    (`extend`), where others can join it, or stays private until it finishes (`grow`). A finished
    sequence keeps its cells under its number, as a leaf, until they are needed. Then the least
    recently used leaf goes first, from its last tokens backwards, but nothing that a running
    sequence has.

    Operations for the KV cache are collected, in order, for `take_operations`.
    """

    def __init__(self, n_cells: int, n_sequences: int) -> None:
        self._n_cells = n_cells
        self._n_sequences = n_sequences
        self.on_evict: Callable[[bytes, int, list[int], int], None] | None = None
        """Called before cells of no running sequence are freed, with the root, the native sequence
        that has them, its tokens, and the position from which they go."""
        self.reset()

    def reset(self) -> None:
        """Forgets everything cached or running, as after the KV cache was cleared."""
        self._roots: dict[bytes, _Node] = {}
        self._tips: dict[int, _Node] = {}
        self._private: dict[int, int] = {}
        self._unused = list(range(self._n_sequences))
        self._n_used = 0
        self._clock = count(1)
        self._operations: list[Operation] = []

    @property
    def n_free(self) -> int:
        """Number of empty cells."""
        return self._n_cells - self._n_used

    @property
    def n_running(self) -> int:
        """Number of cells that running sequences have."""
        return sum(self._private.values()) + self._n_running_cells()

    @property
    def n_cached(self) -> int:
        """Number of cells whose content no running sequence has."""
        return self._n_used - self.n_running

    def take_operations(self) -> list[Operation]:
        """Returns the KV cache operations collected since the last call."""
        operations, self._operations = self._operations, []
        return operations

    def match(self, tokens: Sequence[int], root: bytes = b"") -> int:
        """Returns how many of the first tokens are cached under a root."""
        node = self._roots.get(root)
        return 0 if node is None else self._walk(node, tokens)[2]

    def holder(self, tokens: Sequence[int], root: bytes = b"") -> int | None:
        """Returns a native sequence that has the cells of all the tokens; None if none has."""
        node = self._roots.get(root)
        if node is None:
            return None
        found, _, n = self._walk(node, tokens)
        return self._holder(found) if n == len(tokens) else None

    def begin(self, root: bytes = b"") -> int:
        """Returns the number of a new running sequence, which has no cells yet."""
        while not self._unused:
            self._drop(self._oldest())
        sequence = self._unused.pop()
        tip = self._root(root)
        self._tips[sequence] = tip
        self._private[sequence] = 0
        tip.sequences.add(sequence)
        return sequence

    def join(self, sequence: int, tokens: Sequence[int]) -> int:
        """Takes over the cached part of `tokens`, which begin with those that the sequence has;
        returns how many it has then."""
        assert self._private[sequence] == 0
        n_before = self._tips[sequence].end
        return n_before + self._take_over(sequence, tokens[n_before:])

    def extend(self, sequence: int, tokens: Sequence[int]) -> None:
        """Adds tokens that the sequence computed after those it has; others may join them."""
        if tokens:
            assert self._private[sequence] == 0
            self._n_used += len(tokens)
            self._append(sequence, tokens)

    def grow(self, sequence: int, n_tokens: int) -> None:
        """Counts tokens that the sequence computed, private until it finishes."""
        self._private[sequence] += n_tokens
        self._n_used += n_tokens

    def finish(self, sequence: int, tail: Sequence[int]) -> None:
        """Ends a running sequence; `tail` are its private tokens."""
        n_private = self._private.pop(sequence)
        assert n_private == len(tail)
        n = self._take_over(sequence, tail)  # what others have computed meanwhile
        self._n_used -= n
        if len(tail) > n:
            self._append(sequence, tail[n:])
        node = self._tips.pop(sequence)
        self._touch(node)
        self._release_idle(node)

    def reserve(self, n_tokens: int) -> None:
        """Makes room for `n_tokens` more cells."""
        while self.n_free < n_tokens:
            leaf = self._oldest()
            n = max(n_tokens - self.n_free, TRIM)
            if n >= len(leaf.tokens):
                self._drop(leaf)
            else:
                self._tell_evicted(leaf, leaf.end - n)
                del leaf.tokens[-n:]
                leaf.end -= n
                self._n_used -= n
                [sequence] = leaf.sequences
                self._operations.append(Truncate(sequence, leaf.end))

    def _root(self, key: bytes) -> _Node:
        """Returns a root, which is made if there is none. Forgets those that have become empty."""
        found = self._roots.get(key)
        if found is None:
            self._roots = {k: r for k, r in self._roots.items() if r.children or r.sequences}
            found = self._roots[key] = _Node([], 0, None, key=key)
        return found

    def _tell_evicted(self, leaf: _Node, begin: int) -> None:
        if self.on_evict is None:
            return
        parts: list[list[int]] = []
        node: _Node = leaf
        while node.parent is not None:
            parts.append(node.tokens)
            node = node.parent
        path = [token for part in reversed(parts) for token in part]
        self.on_evict(node.key, self._holder(leaf), path, begin)

    def _take_over(self, sequence: int, tokens: Sequence[int]) -> int:
        """Advances a running sequence along cached tokens and shares their cells; returns how
        many."""
        tip = self._tips[sequence]
        node, inside, n = self._walk(tip, tokens)
        if n:
            if inside:
                node = self._split(node, inside)
            self._operations.append(Share(self._holder(node), sequence, tip.end, node.end))
            self._move(sequence, node)
        return n

    def _walk(self, node: _Node, tokens: Sequence[int]) -> tuple[_Node, int, int]:
        """Walks from the end of `node` along `tokens`. Returns the last node touched, how many
        tokens of its edge match (0 if all do), and how many of `tokens` match."""
        n = 0
        while n < len(tokens):
            child = node.children.get(tokens[n])
            if child is None:
                break
            inside = common_prefix(child.tokens, tokens[n : n + len(child.tokens)])
            n += inside
            node = child
            if inside < len(child.tokens):
                return node, inside, n
        return node, 0, n

    def _split(self, node: _Node, n: int) -> _Node:
        """Cuts a node's edge after its n-th token; returns the new upper half. The lower half stays
        the same object, for the sequences that end in it."""
        assert node.parent is not None
        upper = _Node(
            node.tokens[:n], node.end - len(node.tokens) + n, node.parent, last_used=node.last_used
        )
        upper.children[node.tokens[n]] = node
        node.parent.children[node.tokens[0]] = upper
        node.tokens = node.tokens[n:]
        node.parent = upper
        return upper

    def _append(self, sequence: int, tokens: Sequence[int]) -> None:
        tip = self._tips[sequence]
        if tip.parent is not None and not tip.children and tip.sequences == {sequence}:
            tip.tokens += tokens
            tip.end += len(tokens)
            return
        assert tokens[0] not in tip.children
        child = _Node(list(tokens), tip.end + len(tokens), tip, last_used=tip.last_used)
        tip.children[tokens[0]] = child
        self._move(sequence, child)

    def _move(self, sequence: int, node: _Node) -> None:
        """Moves the end of a running sequence down to `node`."""
        tip = self._tips[sequence]
        tip.sequences.remove(sequence)
        node.sequences.add(sequence)
        self._tips[sequence] = node
        self._touch(node)
        self._release_idle(tip)
        self._release_idle(node)

    def _release_idle(self, node: _Node) -> None:
        """Releases the numbers of finished sequences that are not needed to keep the cells."""
        idle = [sequence for sequence in node.sequences if sequence not in self._tips]
        needed = not node.children and len(idle) == len(node.sequences) and node.parent is not None
        for sequence in idle[1:] if needed else idle:
            node.sequences.remove(sequence)
            self._release(sequence)

    def _release(self, sequence: int) -> None:
        self._operations.append(Truncate(sequence, 0))
        self._unused.append(sequence)

    def _holder(self, node: _Node) -> int:
        """Returns a native sequence that has all the cells on the way to `node`."""
        while not node.sequences:
            node = next(iter(node.children.values()))
        return next(iter(node.sequences))

    def _touch(self, node: _Node) -> None:
        now = next(self._clock)
        above: _Node | None = node
        while above is not None:
            above.last_used = now
            above = above.parent

    def _oldest(self) -> _Node:
        """Returns the least recently used leaf that no running sequence has."""
        return min(
            (
                node
                for node in self._nodes()
                if not node.children and node.parent and not node.sequences & self._tips.keys()
            ),
            key=lambda node: node.last_used,
        )

    def _drop(self, leaf: _Node) -> None:
        """Frees the cells of a leaf's edge. Its number stays with the tokens before them, unless
        another sequence holds these."""
        [sequence] = leaf.sequences
        parent = leaf.parent
        assert parent is not None
        self._tell_evicted(leaf, parent.end)
        del parent.children[leaf.tokens[0]]
        self._n_used -= len(leaf.tokens)
        if parent.parent is None or parent.children or parent.sequences:
            self._release(sequence)
        else:
            parent.sequences.add(sequence)
            self._operations.append(Truncate(sequence, parent.end))

    def _nodes(self) -> Iterator[_Node]:
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            yield node
            stack += node.children.values()

    def _n_running_cells(self) -> int:
        """Returns how many cells in the tree running sequences have."""
        seen: set[int] = set()
        n = 0
        for tip in self._tips.values():
            node: _Node | None = tip
            while node is not None and id(node) not in seen:
                seen.add(id(node))
                n += len(node.tokens)
                node = node.parent
        return n
