"""How many sequences may run: how long answers become, and who is set aside when the cells are
full. Pure: knows tokens, clients and seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ...clients import having_most
from .sequence import TokenSequence

SLACK = 16
"""Cells that each running sequence should still get before another one starts: one that starts into
the last cells is set aside at once."""
KNOWN_LENGTHS, LEAST_LENGTHS = 64, 8
"""The lengths of the latest answers that are remembered, and how many are needed to go by them."""
_MOST_OF = 0.9
_LONGER = 1.25


class Lengths:
    """How many tokens answers had lately. Most are far shorter than they may be."""

    def __init__(self) -> None:
        self._known: deque[int] = deque(maxlen=KNOWN_LENGTHS)

    @property
    def known(self) -> bool:
        """Whether there are enough to go by."""
        return len(self._known) >= LEAST_LENGTHS

    def add(self, n_tokens: int) -> None:
        """Records an answer that has ended."""
        self._known.append(n_tokens)

    def left(self, sequence: TokenSequence) -> int:
        """Returns how many tokens an answer will still get: no more than it may, and as many as
        nine of ten answers had in all, or a quarter of what it has if it has more."""
        n, most = len(sequence.generated), sequence.max_tokens
        if not self.known:
            return most - n
        usual = sorted(self._known)[int(_MOST_OF * (len(self._known) - 1))]
        return max(min(most, max(usual, round(_LONGER * n) + SLACK)) - n, 0)


def victim(running: Sequence[TokenSequence]) -> TokenSequence | None:
    """Returns which sequence is set aside: the one that came last of the client that has most
    cells. Never the one that came first, so that all end; nor one whose prompt's log-probabilities
    are being told. None if there is no other."""
    oldest = min(running, key=lambda each: each.order, default=None)
    others = [each for each in running if each is not oldest and each.scored]
    if not others:
        return None
    client = having_most((each.client, each.n_computed) for each in others)
    return max((each for each in others if each.client == client), key=lambda each: each.order)
