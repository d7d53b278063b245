"""Guesses at what a sequence says next, from texts that it may repeat; knows token ids alone.

A guess costs little when several tokens are computed in one step, and a wrong one changes nothing:
the step samples each token from the model as without it (prompt look-up decoding, Saxena 2023, with
OpenAI's predicted outputs as a second text).
"""

from __future__ import annotations

from collections.abc import Container, Sequence

N_GRAM = 3
"""Tokens that must be the same before the ones behind them are guessed."""
FIRST_LENGTH = 2
FIRST_PREDICTED_LENGTH = 16
MOST = 63
MOST_PAUSE = 64


class _Text:
    """Tokens that may come again, and the place in them where the next one is expected."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = list(tokens)
        self._behind: dict[tuple[int, ...], int] = {}
        self.place: int | None = None
        for end in range(N_GRAM, len(self._tokens)):
            self._behind[tuple(self._tokens[end - N_GRAM : end])] = end

    def follow(self, last: Sequence[int]) -> None:
        """A token came, the end of `last` (N_GRAM tokens): the place goes on, or is looked up."""
        place = self.place
        if place is not None and place < len(self._tokens) and self._tokens[place] == last[-1]:
            self.place = place + 1
        else:
            self.place = self._behind.get(tuple(last))

    def append(self, token: int) -> None:
        """Makes the text longer by a token, for later look-ups."""
        if len(self._tokens) >= N_GRAM:
            self._behind[tuple(self._tokens[-N_GRAM:])] = len(self._tokens)
        self._tokens.append(token)

    def guess(self, n: int) -> list[int]:
        """Up to n tokens from the place on."""
        return [] if self.place is None else self._tokens[self.place : self.place + n]

    def guess_on(self, n: int) -> list[int]:
        """As `guess`, for a text that the guess itself makes longer: n tokens, going round."""
        guess = self.guess(n)
        while guess and len(guess) < n:
            guess.append(guess[-self._period])
        return guess

    @property
    def _period(self) -> int:
        assert self.place is not None
        return len(self._tokens) - self.place


class Drafter:
    """Drafts for one sequence, as many as its last ones were right.

    A draft that is right altogether is followed by one of twice the length; after one that was
    wrong from the start there is a pause, which doubles with each in a row, so that a text without
    repetition is not slowed down.
    """

    def __init__(
        self, prompt: Sequence[int], prediction: Sequence[int], ends: Container[int]
    ) -> None:
        """`ends` are tokens that end an answer: they are never guessed."""
        self._own = _Text(prompt)
        self._last = list(prompt[-N_GRAM:])
        self._ends = ends
        self._prediction = _Text(prediction) if prediction else None
        self._length = FIRST_LENGTH
        if self._prediction is not None:
            self._prediction.place = 0
            self._length = FIRST_PREDICTED_LENGTH
        self._misses = 0
        self._pause = 0
        self._predicted = False
        self.n_drafted = self.n_accepted = 0
        self.n_predicted = self.n_accepted_predicted = 0

    def propose(self, limit: int) -> list[int]:
        """At most `limit` tokens that may come next; none when nothing is known."""
        limit = min(limit, self._length, MOST)
        if limit < 1 or self._pause:
            return []
        draft = [] if self._prediction is None else self._prediction.guess(limit)
        self._predicted = bool(draft)
        if not draft:
            draft = self._own.guess_on(limit)
        end = next((i for i, token in enumerate(draft) if token in self._ends), len(draft))
        return draft[:end]

    def take(self, tokens: Sequence[int], n_drafted: int) -> None:
        """What a step sampled, after a draft of so many tokens: all but the last were in it."""
        n_accepted = len(tokens) - 1
        self.n_drafted += n_drafted
        self.n_accepted += n_accepted
        if self._predicted:
            self.n_predicted += n_drafted
            self.n_accepted_predicted += n_accepted
        self._pause = max(self._pause - len(tokens), 0)
        if n_drafted:
            self._adapt(n_drafted, n_accepted)
        for token in tokens:
            self._last = [*self._last, token][-N_GRAM:]
            self._own.append(token)
            self._own.follow(self._last)
            if self._prediction is not None:
                self._prediction.follow(self._last)

    def _adapt(self, n_drafted: int, n_accepted: int) -> None:
        if n_accepted:
            self._misses = 0
            longer = 2 * n_accepted if n_accepted == n_drafted else n_accepted
            self._length = max(longer, FIRST_LENGTH)
        else:
            self._misses += 1
            self._pause = min(2**self._misses, MOST_PAUSE)
            self._length = FIRST_LENGTH
