"""Learns how long steps take, and limits them so that no running stream waits too long. Pure."""

from __future__ import annotations

_AIM = 0.95
"""Steps are planned for this share of the time that they may take, since step times vary."""
REFRESH = 32
"""An ordinary step is measured again after this many longer ones."""
_FIRST = 4
_COST = 0.1
"""Cost of a further token, as a fraction of a step, while nothing is known."""
_RATE = 0.3
_REFRESH_RATE = 0.6
_RATE_UP, _RATE_DOWN = 0.6, 0.15


class Pace:
    """Learns the seconds of an ordinary step, in which each of n streams gets a token and nothing
    else is computed, and the seconds that a further token adds to it.

    A further token is a prompt token or a draft. When memory is the bottleneck, the first few cost
    nearly nothing and later ones more. So the cost of a token is learned at the number computed
    now, and that number grows gradually.
    """

    def __init__(self, most: int, slowdown: float) -> None:
        """`most` is the number of tokens that a step can hold besides the streams' own. A step
        beside running streams may take `slowdown` times as long as an ordinary one."""
        self._most = most
        self._slowdown = slowdown
        self._room = _AIM * slowdown - 1
        """What further tokens may add to a step, as a fraction of an ordinary one."""
        self._ordinary: dict[int, float] = {}
        self._since: dict[int, int] = {}
        self._added: float | None = None
        self._added_by_size: list[float | None] = [None] * (most + 64).bit_length()
        """Seconds that a token added in steps with 1 further one, 2 or 3, 4 to 7, and so on."""
        self._last = _FIRST
        self.prompt_token_s = 0.01
        """Seconds per prompt token in steps of prompt tokens alone."""

    def ordinary(self, n_streams: int) -> float:
        """Returns the seconds of an ordinary step with so many streams. For a number that never was
        it is an estimate: the nearest one, and for each stream more or less what a further token
        costs. 0 while nothing is known."""
        if not self._ordinary:
            return 0.0
        nearest = min(self._ordinary, key=lambda n: (abs(n - n_streams), n))
        added = self.prompt_token_s if self._added is None else self._added
        known = self._ordinary[nearest]
        return max(known + (n_streams - nearest) * added, known / 2)

    def allowed(self, n_streams: int) -> int:
        """Returns how many further tokens the next step may hold beside `n_streams` streams; 0 when
        it should measure an ordinary step."""
        ordinary = self._ordinary.get(n_streams)
        if ordinary is None or self._since[n_streams] >= REFRESH:
            return 0
        if self._added is None:
            return min(_FIRST, self._most)
        fits = self._room * ordinary / self._added if self._added else self._most
        return max(1, int(min(fits, 1.2 * self._last + 1, self._most)))

    def cost(self, n_streams: int, n_further: int) -> float:
        """Returns the time that `n_further` tokens add to an ordinary step with `n_streams`
        streams, as a fraction of that step's time. Assumes that a number never tried costs no more
        per token than those tried, or than a prompt token; otherwise it would never be tried."""
        ordinary = self._ordinary.get(n_streams)
        known = [added for added in self._added_by_size if added is not None]
        if ordinary is None or not known:
            return _COST * n_further
        size = n_further.bit_length() - 1
        added = self._added_by_size[size]
        if added is None:
            smaller = [one for one in self._added_by_size[:size] if one is not None]
            added = min(smaller[-1], self.prompt_token_s) if smaller else known[0]
        return n_further * added / ordinary

    def learn(self, n_streams: int, n_further: int, seconds: float) -> None:
        """Records how long a step took."""
        if not n_streams:
            if n_further >= 16:
                self.prompt_token_s += _RATE * (seconds / n_further - self.prompt_token_s)
            return
        ordinary = self._ordinary.get(n_streams)
        if not n_further:
            rate = _REFRESH_RATE if self._since.get(n_streams) else _RATE
            new = seconds if ordinary is None else ordinary + rate * (seconds - ordinary)
            # Interruptions make a step longer; nothing makes one shorter.
            self._ordinary[n_streams] = min(new, 1.5 * ordinary) if ordinary else new
            self._since[n_streams] = 0
            return
        if ordinary is None:
            return
        self._since[n_streams] += 1
        self._last = n_further
        added = max(seconds - ordinary, 0.0) / n_further
        size = n_further.bit_length() - 1
        before = self._added_by_size[size]
        self._added_by_size[size] = added if before is None else before + _RATE * (added - before)
        if self._added is None:
            self._added = added
        else:
            rate = _RATE_UP if added > self._added else _RATE_DOWN
            self._added += rate * (added - self._added)
        if n_further == 1 and seconds > self._slowdown * ordinary:
            self._since[n_streams] += REFRESH // 4  # ordinary steps may have become longer
