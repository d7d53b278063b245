"""One of the answers to a request: turns its tokens into text and logprobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..protocol.events import ChoiceFinished, Text, TokenLogprob
from .kvcache.answer_ids import Note
from .scheduling.sequence import TokenSequence
from .text import TextStream


@dataclass(slots=True)
class Drafts:
    """Counts guessed tokens and those accepted into the answer. The `predicted` ones were guessed
    from the request's prediction."""

    n: int = 0
    n_accepted: int = 0
    n_predicted: int = 0
    n_accepted_predicted: int = 0

    def proposed(self, n: int, predicted: bool) -> None:
        self.n += n
        self.n_predicted += n * predicted

    def accepted(self, predicted: bool) -> None:
        """Counts a draft that became the answer's next token."""
        self.n_accepted += 1
        self.n_accepted_predicted += predicted


class Choice:
    """Turns the tokens of one answer into Text events.

    A token's logprob is sent with the event that completes the token's text. So each event has the
    logprobs of its own text, and none for text that a stop string cut off.
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
        """The tokens taken, including the one that ended the answer."""
        self.drafts = Drafts()
        self.note: Note | None = None
        """What is kept of it beside its cells, once it has ended."""

    @property
    def text(self) -> str:
        """The answer so far, without what is held back."""
        return "".join(self._sent)

    @property
    def full(self) -> bool:
        """Whether the answer has reached its maximum number of tokens."""
        return len(self.tokens) >= self.sequence.max_tokens

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._text.stopped

    def take(self, piece: bytes, logprob: TokenLogprob | None) -> list[Text]:
        """Takes a token's bytes; returns the event that they complete, if any."""
        text = self._text.push(piece)
        if logprob is not None:
            self._logprobs.append((self._text.n_begun, logprob))
        return self._event(text, last=False)

    def finish(self) -> list[Text]:
        """Returns the event with what was held back, if any."""
        return self._event(self._text.finish(), last=not self._text.stopped)

    def finished(self, reason: str, timed_out: bool) -> ChoiceFinished:
        """Returns the last event."""
        return ChoiceFinished(
            id=self.request,
            choice=self.index,
            reason=reason,
            timed_out=timed_out,
            stop=self._text.stop,
        )

    def _event(self, text: str, last: bool) -> list[Text]:
        self._sent.append(text)
        self._n_sent += len(text)
        ready: list[TokenLogprob] = []
        while self._logprobs and (last or self._logprobs[0][0] <= self._n_sent):
            ready.append(self._logprobs.popleft()[1])
        if not text and not ready:
            return []
        return [Text(self.request, self.index, text, ready or None, len(self.tokens))]
