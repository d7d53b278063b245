"""Guesses at what a sequence says next, from texts that it may repeat; knows token ids alone.

A guess costs little when several tokens are computed in one step, and a wrong one changes nothing:
the step samples each token from the model as without it (prompt look-up decoding, Saxena 2023, with
OpenAI's predicted outputs as a second text).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Sequence

import numpy as np

N_GRAM = 3
"""Tokens that must be the same before the ones behind them are guessed."""
MOST = 63
_BITS = 64 // N_GRAM
_PRIOR_WEIGHT = 4.0
# By how many tokens were the same before: less than 5, 9, 17, or more.
_OWN_PRIOR = (0.35, 0.6, 0.8, 0.93)
_PREDICTION_PRIOR = (0.95, 0.95, 0.95, 0.95)


class Index:
    """A text that does not change, with the places behind each N_GRAM of it: 16 bytes a token.
    Several drafters may share one."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = array("i", tokens)
        ids = np.array(self.tokens, dtype=np.uint64)
        n = max(len(ids) - N_GRAM, 0)  # behind the last one nothing stands
        keys = np.zeros(n, dtype=np.uint64)
        for i in range(N_GRAM):
            keys = keys << np.uint64(_BITS) | ids[i : n + i]
        # Of equal keys the last one of a stable order stands last in the text.
        self._ends = np.argsort(keys, kind="stable").astype(np.int32)
        self._keys = keys[self._ends]

    def behind(self, last: Sequence[int]) -> int | None:
        """Where the text goes on behind the last place that has these N_GRAM tokens."""
        if len(last) < N_GRAM:
            return None
        key = np.uint64(_key(last))
        at = int(np.searchsorted(self._keys, key, side="right")) - 1
        if at < 0 or self._keys[at] != key:
            return None
        return int(self._ends[at]) + N_GRAM


def _key(tokens: Sequence[int]) -> int:
    key = 0
    for token in tokens:
        key = key << _BITS | token
    return key


class _Text:
    """Tokens that may come again, the place in them where the next one is expected, and how often
    that was right, which is learned whether a guess was made or not."""

    def __init__(self, index: Index, prior: Sequence[float]) -> None:
        self._index = index
        self._tokens = array("i", index.tokens)
        self._behind: dict[int, int] = {}
        self._place: int | None = None
        self._run = 0
        self._right = [_PRIOR_WEIGHT * chance for chance in prior]
        self._seen = [_PRIOR_WEIGHT] * len(prior)

    def expect_beginning(self) -> None:
        """The text's first token is expected next."""
        self._place = 0

    def follow(self, last: Sequence[int]) -> None:
        """A token came, the end of `last` (N_GRAM tokens): the place goes on, or is looked up."""
        place = self._place
        if place is not None and place < len(self._tokens):
            right = self._tokens[place] == last[-1]
            bucket = _bucket(self._run)
            self._seen[bucket] += 1
            self._right[bucket] += right
            if right:
                self._place = place + 1
                self._run += 1
                return
        self._place = self._behind.get(_key(last))
        if self._place is None:
            self._place = self._index.behind(last)
        self._run = N_GRAM

    def append(self, token: int) -> None:
        """Makes the text longer by a token, for later look-ups."""
        if len(self._tokens) >= N_GRAM:
            self._behind[_key(self._tokens[-N_GRAM:])] = len(self._tokens)
        self._tokens.append(token)

    def guess(self, n: int, goes_on: bool) -> list[int]:
        """Up to n tokens from the place on. A text that `goes_on` is one that the guess makes
        longer itself: it goes round."""
        if self._place is None:
            return []
        guess = self._tokens[self._place : self._place + n].tolist()
        period = len(self._tokens) - self._place
        while goes_on and len(guess) < n:
            guess.append(guess[-period])
        return guess

    def chance(self, i: int) -> float:
        """How likely the i-th token of a guess is right when those before it are."""
        bucket = _bucket(self._run + i)
        return self._right[bucket] / self._seen[bucket]


def _bucket(run: int) -> int:
    return 0 if run < 5 else 1 if run < 9 else 2 if run < 17 else 3


class Drafter:
    """Drafts for one sequence, of the length that promises the most tokens in the time."""

    def __init__(self, prompt: Index, prediction: Index, ends: Container[int]) -> None:
        """`ends` are tokens that end an answer: they are never guessed."""
        self._own = _Text(prompt, _OWN_PRIOR)
        self._prediction = _Text(prediction, _PREDICTION_PRIOR)
        self._prediction.expect_beginning()
        self._last = prompt.tokens[-N_GRAM:].tolist()
        self._ends = ends
        self.from_prediction = False
        """Whether the last tokens that were proposed are of the prediction."""

    def propose(self, limit: int, cost: Callable[[int], float], n_streams: int = 1) -> list[int]:
        """At most `limit` tokens that may come next, none when they are not worth their time.

        `cost(n)` is what n further tokens add to the time of a step, as a part of it; the step
        gives a token to each of `n_streams` without drafts.
        """
        limit = min(limit, MOST)
        if limit < 1:
            return []
        text = self._prediction
        guess = text.guess(limit, goes_on=False)
        self.from_prediction = bool(guess)
        if not guess:
            text = self._own
            guess = text.guess(limit, goes_on=True)
        length, best = 0, float(n_streams)
        expected, reached = best, 1.0
        for i, token in enumerate(guess):
            if token in self._ends:
                break
            reached *= text.chance(i)
            expected += reached
            rate = expected / (1 + cost(i + 1))
            if rate > best:
                length, best = i + 1, rate
        return guess[:length]

    def take(self, tokens: Sequence[int]) -> None:
        """What was sampled: the texts are followed."""
        for token in tokens:
            self._last = [*self._last, token][-N_GRAM:]
            self._own.append(token)
            self._own.follow(self._last)
            self._prediction.follow(self._last)
