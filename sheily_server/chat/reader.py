"""Turns the engine's events for one request into pieces of its answers. Knows function calls, but
not HTTP or how pieces are written."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from ..protocol.events import ChoiceFinished, Text, TokenLogprob
from ..templates.base import Call, CallSyntax, Offer


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one choice's answer: text, function calls, or its end.

    `finish` is stop, length or tool_calls. It comes with the last piece of a choice.
    """

    choice: int
    text: str = ""
    _: KW_ONLY
    logprobs: tuple[TokenLogprob, ...] = ()
    calls: tuple[Call, ...] = ()
    finish: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an answer without a token is: its `queue_place`, 1 for the next one that runs, or
    None once it runs; how many of its prompt tokens are in the KV cache, and how many of these were
    there before."""

    queue_place: int | None
    prompt_tokens: int
    computed_tokens: int = 0
    cached_tokens: int = 0


class AnswerReader:
    """Follows one choice. Holds back text that may become a function call until that is clear.
    Whether it is one shows only at its end."""

    def __init__(self, choice: int, offer: Offer, syntax: CallSyntax | None) -> None:
        self._choice = choice
        self._offer = offer
        self._syntax = syntax if offer.functions else None
        """How a call would look; None once the answer is known to be text."""
        self._held = ""
        self._logprobs: list[TokenLogprob] = []

    def take(self, event: Text) -> list[Piece]:
        """Returns what can be sent now."""
        self._logprobs += event.logprobs or ()
        self._held += event.text
        if self._syntax and not self._offer.forced and not self._syntax.may_begin(self._held):
            self._syntax = None
        return [] if self._syntax else [self._release()]

    def end(self, event: ChoiceFinished) -> list[Piece]:
        """Returns the last pieces: the calls, if the answer made any, or the text held back."""
        calls = self._calls()
        reason = event.reason
        pieces = []
        if calls:
            pieces.append(Piece(self._choice, logprobs=self._taken_logprobs(), calls=tuple(calls)))
            # A cut-off answer can still hold a whole call before the cut.
            reason = "tool_calls" if reason == "stop" else reason
        elif self._held or self._logprobs:
            pieces.append(self._release())
        return [*pieces, Piece(self._choice, finish=reason)]

    def _calls(self) -> list[Call]:
        """Returns the calls that the answer makes; none unless all are of offered functions."""
        if self._syntax is None:
            return []
        calls = self._syntax.parse(self._held)
        names = {function.name for function in self._offer.functions}
        if not all(call.name in names for call in calls):
            return []
        return calls if self._offer.several else calls[:1]

    def _release(self) -> Piece:
        text, self._held = self._held, ""
        return Piece(self._choice, text, logprobs=self._taken_logprobs())

    def _taken_logprobs(self) -> tuple[TokenLogprob, ...]:
        logprobs, self._logprobs = tuple(self._logprobs), []
        return logprobs
