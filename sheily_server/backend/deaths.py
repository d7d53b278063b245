"""How often the engine has died in a row, and what follows from that. Pure."""

from __future__ import annotations

BACKOFF_S = (0.0, 0.5, 2.0, 10.0, 30.0)
"""Seconds before the engine is started again, by the deaths in a row; after so many it is given
up."""
WARY_AFTER = 2
"""Deaths in a row of the engine by itself after which requests go one at a time, until one is
answered: so it is known whose fault the next death is. It does not count among those after which
the engine is given up, if that has ever answered a request."""
MOST_OWN_BACKOFF = 3
"""As if so many crashes had been in a row, at most, is waited after deaths that do not count."""


class Deaths:
    """Counts deaths; those that are one request's fault alone do not give the engine up."""

    def __init__(self) -> None:
        self.count = 0
        """All of them."""
        self.in_row = 0
        """Without an answer in between, and without those that one request alone caused."""
        self._own_in_row = 0
        self._has_answered = False

    def died(self, by_itself: bool, alone: bool, convicted: bool) -> bool:
        """Takes note of a death: whether the engine died of what it computed, with one request
        `alone` in it, which is known for that now. Gives whether it is time to be wary."""
        self.count += 1
        self._own_in_row += by_itself
        if not convicted and not (alone and self._has_answered):
            self.in_row += 1
        return by_itself and self._own_in_row == WARY_AFTER

    def answered(self) -> None:
        """A request was answered to its end."""
        self._has_answered = True
        self.in_row = self._own_in_row = 0

    @property
    def too_many(self) -> bool:
        """Whether the engine is given up."""
        return self.in_row >= len(BACKOFF_S)

    @property
    def backoff_s(self) -> float:
        """Seconds to wait before it is started again."""
        in_row = max(self.in_row, min(self._own_in_row, MOST_OWN_BACKOFF))
        return BACKOFF_S[max(0, in_row - 1)]
