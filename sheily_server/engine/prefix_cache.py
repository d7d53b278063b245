"""Which tokens the KV cache holds in each slot, so that a prompt's known beginning is not computed
again; knows token ids alone, not the cache itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])


class PrefixCache:
    """The token ids in each slot's KV cells, whether the slot is in use or free.

    A conversation's next turn begins with all of its last one, so the slot that shares the longest
    prefix with a prompt is the one to continue in.
    """

    def __init__(self, n_slots: int) -> None:
        self._tokens: list[list[int]] = [[] for _ in range(n_slots)]
        self._last_used = [0] * n_slots
        self._clock = 0

    def best(self, prompt: Sequence[int], free: Iterable[int]) -> tuple[int, int]:
        """The free slot to use and how many tokens of the prompt it holds.

        The last token of a prompt is always computed, since its logits are wanted. Where nothing is
        shared the slot that was unused for longest is taken: an empty one, at first.
        """

        def merit(slot: int) -> tuple[int, int]:
            return common_prefix(self._tokens[slot], prompt), -self._last_used[slot]

        slot = max(free, key=merit)
        return slot, min(common_prefix(self._tokens[slot], prompt), len(prompt) - 1)

    def take(self, slot: int, tokens: Sequence[int]) -> None:
        """The slot now holds exactly these tokens."""
        self._clock += 1
        self._last_used[slot] = self._clock
        self._tokens[slot] = list(tokens)

    def extend(self, slot: int, tokens: Sequence[int]) -> None:
        """These tokens were computed behind what the slot holds."""
        self._tokens[slot].extend(tokens)

    def forget(self, slot: int) -> None:
        """What the slot holds is not to be trusted."""
        self._tokens[slot] = []

    def tokens(self, slot: int) -> Sequence[int]:
        return self._tokens[slot]
