"""One of the answers a request asked for: its tokens on the way to text and log-probabilities."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..protocol.events import Text, TokenLogprob
from .scheduling.sequence import TokenSequence
from .text import TextStream


@dataclass(slots=True)
class Drafts:
    """Tokens that were guessed, and those of them that became part of the answer; `predicted` are
    those whose guess came from the request's prediction."""

    n: int = 0
    n_accepted: int = 0
    n_predicted: int = 0
    n_accepted_predicted: int = 0

    def proposed(self, n: int, predicted: bool) -> None:
        self.n += n
        self.n_predicted += n * predicted

    def accepted(self, predicted: bool) -> None:
        """One of them is the answer's next token."""
        self.n_accepted += 1
        self.n_accepted_predicted += predicted


class Choice:
    """Turns the tokens of one answer into Text events.

    A token's log-probability goes out with the event that completes the token's text: so a chunk's
    tokens are those of its text, and none is sent of what a stop string cut off.
    """

    def __init__(
        self, *, request: int, index: int, sequence: TokenSequence, stop: Sequence[str]
    ) -> None:
        self.request = request
        self.index = index
        self.sequence = sequence
        self._text = TextStream(stop)
        self._logprobs: deque[tuple[int, TokenLogprob]] = deque()
        self._sent: list[str] = []
        self._n_sent = 0
        self.tokens: list[int] = []
        """Those taken, the one that ended the answer among them."""
        self.drafts = Drafts()

    @property
    def text(self) -> str:
        """The answer so far, less what is held back."""
        return "".join(self._sent)

    @property
    def full(self) -> bool:
        """Whether the answer has as many tokens as it may."""
        return len(self.tokens) >= self.sequence.max_tokens

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
