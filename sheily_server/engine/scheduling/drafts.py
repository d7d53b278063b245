"""Guesses the next tokens of a sequence from texts that it may repeat. Knows only token ids.

A guess costs little, since several tokens are computed in one step. A wrong guess changes nothing,
since the step samples each token from the model as it would without drafts (prompt look-up
decoding, Saxena 2023, with OpenAI's predicted outputs as a second text).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Sequence

import numpy as np

N_GRAM = 3
"""Number of tokens that must match before the ones after them are guessed."""
MOST = 63
_BITS = 64 // N_GRAM
_PRIOR_WEIGHT = 4.0
# By how many tokens matched before: fewer than 5, 9, 17, or more.
_OWN_PRIOR = (0.35, 0.6, 0.8, 0.93)
_PREDICTION_PRIOR = (0.95, 0.95, 0.95, 0.95)


class Index:
    """An immutable text and the position after each of its N_GRAM tokens; 16 bytes per token.
    Several drafters may share one."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = array("i", tokens)
        ids = np.array(self.tokens, dtype=np.uint64)
        n = max(len(ids) - N_GRAM, 0)  # nothing follows the last one
        keys = np.zeros(n, dtype=np.uint64)
        for i in range(N_GRAM):
            keys = keys << np.uint64(_BITS) | ids[i : n + i]
        # A stable sort keeps equal keys in text order, so the last is the latest occurrence.
        self._ends = np.argsort(keys, kind="stable").astype(np.int32)
        self._keys = keys[self._ends]

    def behind(self, last: Sequence[int]) -> int | None:
        """Returns the position after the last occurrence of these N_GRAM tokens, or None."""
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
    """Tokens that may come again, and the place where the next one is expected. Learns how often
    that token was right, whether or not it was guessed."""

    def __init__(self, index: Index, prior: Sequence[float]) -> None:
        self._index = index
        self._tokens = array("i", index.tokens)
        self._behind: dict[int, int] = {}
        self._place: int | None = None
        self._run = 0
        self._right = [_PRIOR_WEIGHT * chance for chance in prior]
        self._seen = [_PRIOR_WEIGHT] * len(prior)

    def expect_beginning(self) -> None:
        """Expects the text's first token next."""
        self._place = 0

    def follow(self, last: Sequence[int]) -> None:
        """Takes a new token, the last of `last` (N_GRAM tokens). Advances the place if the token
        was right, else looks the place up."""
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
        """Appends a token to the text, for later look-ups."""
        if len(self._tokens) >= N_GRAM:
            self._behind[_key(self._tokens[-N_GRAM:])] = len(self._tokens)
        self._tokens.append(token)

    def guess(self, n: int, goes_on: bool) -> list[int]:
        """Returns up to n tokens from the place on. With `goes_on`, the guess itself extends the
        text, so it continues cyclically past the end."""
        if self._place is None:
            return []
        guess = self._tokens[self._place : self._place + n].tolist()
        period = len(self._tokens) - self._place
        while goes_on and len(guess) < n:
            guess.append(guess[-period])
        return guess

    def chance(self, i: int) -> float:
        """Returns the probability that the i-th token of a guess is right if all before it are."""
        bucket = _bucket(self._run + i)
        return self._right[bucket] / self._seen[bucket]


def _bucket(run: int) -> int:
    return 0 if run < 5 else 1 if run < 9 else 2 if run < 17 else 3


class Drafter:
    """Drafts for one sequence. Picks the length that promises the most tokens per unit of time."""

    def __init__(self, prompt: Index, prediction: Index, ends: Container[int]) -> None:
        """`ends` are tokens that end an answer; they are never guessed."""
        self._own = _Text(prompt, _OWN_PRIOR)
        self._prediction = _Text(prediction, _PREDICTION_PRIOR)
        self._prediction.expect_beginning()
        self._last = prompt.tokens[-N_GRAM:].tolist()
        self._ends = ends
        self.from_prediction = False
        """Whether the last proposed tokens come from the prediction."""

    def propose(self, limit: int, cost: Callable[[int], float], n_streams: int = 1) -> list[int]:
        """Returns at most `limit` tokens that may come next; none when they are not worth their
        time.

        `cost(n)` is the time that n further tokens add to a step, as a fraction of its time.
        Without drafts, the step yields one token for each of `n_streams`.
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
        """Takes the sampled tokens and follows both texts along them."""
        for token in tokens:
            self._last = [*self._last, token][-N_GRAM:]
            self._own.append(token)
            self._own.follow(self._last)
            self._prediction.follow(self._last)
