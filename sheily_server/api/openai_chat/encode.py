"""The pieces of an answer in OpenAI's shapes: one completion, or the chunks of a stream."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from msgspec import UNSET

from ...chat.reader import Piece
from ...chat.tools import Call
from ...chat.turn import Turn
from ...protocol.messages import TokenLogprob
from . import protocol as openai


def whole(turn: Turn, pieces: Sequence[Piece], logprobs: bool) -> openai.ChatCompletion:
    """The completion of a turn that has finished."""
    choices = [
        _choice([piece for piece in pieces if piece.choice == i], i, logprobs)
        for i in range(turn.n)
    ]
    return openai.ChatCompletion(
        turn.id,
        turn.created,
        turn.model,
        turn.fingerprint,
        choices,
        turn.usage(),
        turn.timings(),
        turn.extension(),
    )


class Chunks:
    """The chunks of a stream, in OpenAI's order: the role of each choice, its pieces, its end, and
    the usage, with no choices, where it was asked for."""

    def __init__(self, turn: Turn, include_usage: bool, logprobs: bool) -> None:
        self._turn = turn
        self._include_usage = include_usage
        self._logprobs = logprobs
        self._n_open = turn.n

    def first(self) -> Iterator[openai.ChatCompletionChunk]:
        """The chunks that need no token."""
        for choice in range(self._turn.n):
            yield self._chunk(choice, openai.Delta(role="assistant", content=""), first=choice == 0)

    def of(self, piece: Piece) -> Iterator[openai.ChatCompletionChunk]:
        """The chunks of a piece; none for the end of the last choice, which `last` gives."""
        logprobs = _logprobs(piece.logprobs) if self._logprobs else None
        if piece.calls:
            calls = [_tool_call(call, i) for i, call in enumerate(piece.calls)]
            yield self._chunk(piece.choice, openai.Delta(tool_calls=calls), logprobs)
        elif piece.text or piece.logprobs:
            yield self._chunk(piece.choice, openai.Delta(content=piece.text), logprobs)
        if piece.finish is not None:
            self._n_open -= 1
            if self._n_open:
                yield self._chunk(piece.choice, openai.Delta(), finish=piece.finish)

    def last(self) -> Iterator[openai.ChatCompletionChunk]:
        """The chunks of a turn that has finished: the end of its last choice, and the usage."""
        turn = self._turn
        choice, finish = list(turn.finish_reasons.items())[-1]
        yield openai.ChatCompletionChunk(
            turn.id,
            turn.created,
            turn.model,
            turn.fingerprint,
            [openai.ChunkChoice(openai.Delta(), finish, choice)],
            usage=None if self._include_usage else UNSET,
            timings=turn.timings(),
            sheily=turn.extension(),
        )
        if self._include_usage:
            yield openai.ChatCompletionChunk(
                turn.id, turn.created, turn.model, turn.fingerprint, [], usage=turn.usage()
            )

    def _chunk(
        self,
        choice: int,
        delta: openai.Delta,
        logprobs: openai.Logprobs | None = None,
        *,
        finish: str | None = None,
        first: bool = False,
    ) -> openai.ChatCompletionChunk:
        turn = self._turn
        return openai.ChatCompletionChunk(
            turn.id,
            turn.created,
            turn.model,
            turn.fingerprint,
            [openai.ChunkChoice(delta, finish, choice, logprobs)],
            usage=None if self._include_usage else UNSET,
            sheily=turn.extension() if first else UNSET,
        )


def _choice(pieces: Sequence[Piece], index: int, logprobs: bool) -> openai.Choice:
    calls = [_tool_call(call) for piece in pieces for call in piece.calls]
    text = "".join(piece.text for piece in pieces)
    message = openai.AnswerMessage(None if calls else text, tool_calls=calls or UNSET)
    tokens = [logprob for piece in pieces for logprob in piece.logprobs]
    finish = pieces[-1].finish
    if finish is None:
        raise RuntimeError("an answer without its end")
    return openai.Choice(message, finish, index, _logprobs(tokens) if logprobs else None)


def _tool_call(call: Call, index: int | None = None) -> openai.AnswerToolCall:
    function = openai.AnswerCall(call.name, call.arguments)
    place = UNSET if index is None else index
    return openai.AnswerToolCall(f"call_{secrets.token_hex(12)}", function, index=place)


def _logprobs(tokens: Sequence[TokenLogprob]) -> openai.Logprobs:
    return openai.Logprobs(
        [
            openai.Logprob(
                _text(token.piece),
                token.logprob,
                list(token.piece),
                [openai.TopLogprob(_text(piece), value, list(piece)) for piece, value in token.top],
            )
            for token in tokens
        ]
    )


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")
