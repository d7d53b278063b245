"""Which client had least lately. Pure: knows tokens and the scheduler's time, not what is computed
with them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence

from ...clients import DEPTH, Client, parts
from .sequence import TokenSequence

HALF_LIFE_S = 60.0
"""Seconds after which what a client had counts half."""
MOST_KNOWN = 4096
"""Keys, peers and users that are remembered; of more, those that had least are forgotten."""
_LITTLE = 1.0
"""Tokens below which a client counts as one that had nothing."""


class Fairness:
    """Remembers the tokens that were computed for each key, each peer in it and each user in that.

    A peer's users have its part together, as a key's peers have the key's. So a client that calls
    itself by many names gets no more than with one.
    """

    def __init__(self) -> None:
        self._had: dict[Client, tuple[float, float]] = {}
        """Tokens, and the time at which they were so many."""

    def charge(self, client: Client, n_tokens: int, now: float) -> None:
        """Records that tokens were computed for a client."""
        for part in parts(client):
            self._had[part] = self._now(part, now) + n_tokens, now
        if len(self._had) > MOST_KNOWN:
            self._forget(now)

    def had(self, client: Client, now: float) -> tuple[float, ...]:
        """Returns what a client had, its key first."""
        return tuple(self._now(part, now) for part in parts(client))

    def next(
        self,
        waiting: Sequence[TokenSequence],
        running: Iterable[TokenSequence],
        urgency: Callable[[TokenSequence], float],
        now: float,
    ) -> TokenSequence:
        """Returns which of some sequences starts: one of the key that had least, in it of the peer,
        in it of the user; of that client's, and of those who had the same, the most urgent one.
        Prompts that `running` ones still compute count as had."""
        left: dict[Client, int] = {}
        for sequence in running:
            for part in parts(sequence.client):
                left[part] = left.get(part, 0) + max(sequence.n_prompt_left, 1)
        for depth in range(1, DEPTH + 1):
            several = {sequence.client[:depth] for sequence in waiting}
            if len(several) > 1:
                had = {part: self._now(part, now) + left.get(part, 0) for part in several}
                least = min(had.values())
                waiting = [each for each in waiting if had[each.client[:depth]] == least]
        return min(waiting, key=urgency)

    def _now(self, part: Client, now: float) -> float:
        if part not in self._had:
            return 0.0
        had, then = self._had[part]
        had *= 0.5 ** ((now - then) / HALF_LIFE_S)
        return had if had >= _LITTLE else 0.0

    def _forget(self, now: float) -> None:
        """Forgets half of what is remembered: seldom, since it takes a while."""
        had = [(self._now(part, now), part) for part in self._had]
        had.sort(key=operator.itemgetter(0), reverse=True)
        self._had = {part: (tokens, now) for tokens, part in had[: MOST_KNOWN // 2] if tokens}
