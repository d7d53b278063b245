"""Turns the engine's events for one request into pieces of its answers. Knows function calls, but
not HTTP or how pieces are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from ..protocol.events import ChoiceFinished, PromptToken, Text, TokenLogprob
from ..templates.base import Call, CallPart, CallSyntax, Offer


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one choice's answer: tokens of its prompt, text, parts of function calls, or its
    end.

    `parts` are what has arrived of calls, `calls` the whole calls that end with this piece.
    `finish` is stop, length or tool_calls. It comes with the last piece of a choice, as does the
    `stop` string that ended the answer, if one did.
    """

    choice: int
    text: str = ""
    _: KW_ONLY
    logprobs: tuple[TokenLogprob, ...] = ()
    parts: tuple[CallPart, ...] = ()
    calls: tuple[Call, ...] = ()
    prompt: tuple[PromptToken, ...] = ()
    finish: str | None = None
    stop: str | None = None


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
    """Follows one choice. What may become a function call is held back until that is clear. `bound`
    means that the answer follows a grammar."""

    def __init__(
        self, choice: int, offer: Offer, syntax: CallSyntax | None, *, bound: bool = False
    ) -> None:
        self._choice = choice
        self._reader = syntax.reader(offer, bound) if syntax and offer.functions else None
        self._logprobs: list[TokenLogprob] = []
        self._name = ""
        self._arguments: list[str] = []
        self._has_called = False

    def take(self, event: Text) -> list[Piece]:
        """Returns what can be sent now."""
        self._logprobs += event.logprobs or ()
        if self._reader is None:
            return [self._piece(event.text)]
        return self._pieces(self._reader.feed(event.text))

    def end(self, event: ChoiceFinished) -> list[Piece]:
        """Returns the last pieces."""
        reason, pieces = event.reason, []
        if self._reader is not None:
            pieces = self._pieces(self._reader.end(cut=reason == "length"))
        if self._logprobs:
            pieces.append(self._piece(""))
        if self._has_called and reason == "stop":
            reason = "tool_calls"
        return [*pieces, Piece(self._choice, finish=reason, stop=event.stop)]

    def _pieces(self, parts: Sequence[str | CallPart]) -> list[Piece]:
        """Returns what a reader has found as pieces, with neighbours in one."""
        pieces: list[Piece] = []
        texts: list[str] = []
        calling: list[CallPart] = []
        for part in parts:
            if isinstance(part, str):
                if calling:
                    pieces.append(self._calling(calling))
                    calling = []
                texts.append(part)
            else:
                if any(texts):
                    pieces.append(self._piece("".join(texts)))
                texts = []
                calling.append(part)
        if calling:
            pieces.append(self._calling(calling))
        elif any(texts):
            pieces.append(self._piece("".join(texts)))
        return pieces

    def _calling(self, parts: Sequence[CallPart]) -> Piece:
        self._has_called = True
        calls = []
        for part in parts:
            self._name = part.name or self._name
            self._arguments.append(part.arguments)
            if part.ends:
                calls.append(Call(self._name, "".join(self._arguments)))
                self._arguments = []
        return Piece(
            self._choice, logprobs=self._taken_logprobs(), parts=tuple(parts), calls=tuple(calls)
        )

    def _piece(self, text: str) -> Piece:
        return Piece(self._choice, text, logprobs=self._taken_logprobs())

    def _taken_logprobs(self) -> tuple[TokenLogprob, ...]:
        logprobs, self._logprobs = tuple(self._logprobs), []
        return logprobs
