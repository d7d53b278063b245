"""Counts how often the engine has died in a row and decides what follows. Pure."""

from __future__ import annotations

BACKOFF_S = (0.0, 0.5, 2.0, 10.0, 30.0)
"""Seconds to wait before a restart, by number of deaths in a row. After the last of these, the
engine is given up."""
WARY_AFTER = 2
"""After this many deaths in a row by itself, requests go one at a time until one is answered, which
shows whose fault the next death is. That death does not count towards giving up if the engine has
ever answered a request."""
MOST_OWN_BACKOFF = 3
"""Deaths that do not count towards giving up wait at most as long as this many crashes in a row."""


class Deaths:
    """Counts deaths. Those that one request alone caused do not count towards giving up."""

    def __init__(self) -> None:
        self.count = 0
        """All deaths."""
        self.in_row = 0
        """Deaths since the last answer, without those that one request alone caused."""
        self._own_in_row = 0
        self._has_answered = False

    def died(self, by_itself: bool, alone: bool, convicted: bool) -> bool:
        """Records a death; returns whether to become wary. `by_itself`: the engine died of what it
        computed. `alone`: one request was alone in it. `convicted`: that request is now known to be
        at fault."""
        self.count += 1
        self._own_in_row += by_itself
        if not convicted and not (alone and self._has_answered):
            self.in_row += 1
        return by_itself and self._own_in_row == WARY_AFTER

    def answered(self) -> None:
        """Records that a request was answered to its end."""
        self._has_answered = True
        self.in_row = self._own_in_row = 0

    def begin_anew(self) -> None:
        """Records that another model is loaded, which those before say nothing of."""
        self._has_answered = False
        self.in_row = self._own_in_row = 0

    @property
    def too_many(self) -> bool:
        """Whether to give the engine up."""
        return self.in_row >= len(BACKOFF_S)

    @property
    def backoff_s(self) -> float:
        """Seconds to wait before restarting the engine."""
        in_row = max(self.in_row, min(self._own_in_row, MOST_OWN_BACKOFF))
        return BACKOFF_S[max(0, in_row - 1)]
