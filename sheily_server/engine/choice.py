"""One of the answers a request asked for: its tokens on the way to text and log-probabilities."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Strings

from .messages import Text, TokenLogprob
from .sequence import Sequence
from .text import TextStream


class Choice:
    """Turns the tokens of one answer into Text events.

    A token's log-probability goes out with the event that completes the token's text: so a chunk's
    tokens are those of its text, and none is sent of what a stop string cut off.
    """

    def __init__(self, request: int, index: int, sequence: Sequence, stop: Strings[str]) -> None:
        self.request = request
        self.index = index
        self.sequence = sequence
        self._text = TextStream(stop)
        self._logprobs: deque[tuple[int, TokenLogprob]] = deque()
        self._sent: list[str] = []
        self._n_sent = 0
        self.tokens: list[int] = []
        """Those taken, the one that ended the answer among them."""

    @property
    def text(self) -> str:
        """The answer so far, less what is held back."""
        return "".join(self._sent)

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._text.stopped

    def take(self, piece: bytes, logprob: TokenLogprob | None) -> list[Text]:
        """The event, if any, that a token's bytes complete."""
        text = self._text.push(piece)
        if logprob is not None:
            self._logprobs.append((self._text.n_begun, logprob))
        return self._event(text, last=False)

    def finish(self) -> list[Text]:
        """The event, if any, with what was held back."""
        return self._event(self._text.finish(), last=not self._text.stopped)

    def _event(self, text: str, last: bool) -> list[Text]:
        self._sent.append(text)
        self._n_sent += len(text)
        ready: list[TokenLogprob] = []
        while self._logprobs and (last or self._logprobs[0][0] <= self._n_sent):
            ready.append(self._logprobs.popleft()[1])
        if not text and not ready:
            return []
        return [Text(self.request, self.index, text, ready or None)]
