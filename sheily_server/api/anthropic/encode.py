"""Encodes the pieces of an answer in Anthropic's shapes: one message, or the events of a stream."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ...chat.reader import Piece, Progress
from ...chat.turn import Turn
from ...templates.base import CallPart
from ...templates.cut_off import completed
from ..openai_chat.encode import extension
from ..route import event
from . import answer

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def whole(turn: Turn, pieces: Sequence[Piece]) -> answer.MessageAnswer:
    """Builds the message of a finished turn."""
    content: list[answer.AnswerBlock] = []
    texts: list[str] = []

    def end_text() -> None:
        if texts:
            content.append(answer.AnswerText("".join(texts)))
            texts.clear()

    for piece in pieces:
        if piece.text:
            texts.append(piece.text)
        for call in piece.calls:
            end_text()
            block = answer.AnswerToolUse(
                id=_new_call_id(), name=call.name, input=_input(call.arguments)
            )
            content.append(block)
    end_text()
    ending = _ending(pieces[-1])
    return answer.MessageAnswer(
        id=_new_id(),
        model=turn.model,
        content=content,
        stop_reason=ending.stop_reason,
        stop_sequence=ending.stop_sequence,
        usage=_usage(turn),
        sheily=extension(turn),
    )


def error(problem: bytes) -> bytes:
    """Writes an error as an event, after which nothing follows."""
    return event(problem, "error")


class Events:
    """Writes a stream's events in Anthropic's order: the start of the message, its blocks with a
    start, deltas and a stop each, and how it ended."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._index = -1
        """The place of the last block."""
        self._kind: type[answer.AnswerBlock] | None = None
        """What the open block is; None while none is open."""
        self._ending: answer.Ending | None = None

    def first(self) -> Iterator[bytes]:
        """Yields the events that need no token."""
        turn = self._turn
        usage = answer.MessageUsage(
            input_tokens=turn.prompt_tokens, output_tokens=0, cache_read_input_tokens=0
        )
        message = answer.MessageAnswer(
            id=_new_id(),
            model=turn.model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=usage,
            sheily=extension(turn),
        )
        yield _event(answer.MessageStart(message))
        yield _event(answer.Ping())

    def of(self, piece: Piece | Progress) -> Iterator[bytes]:
        """Yields a piece's events; none for the end of the answer, which `last` yields."""
        if isinstance(piece, Progress):
            return
        if piece.text:
            if self._kind is not answer.AnswerText:
                yield from self._begin(answer.AnswerText(""))
            yield _event(answer.BlockDelta(self._index, answer.TextDelta(piece.text)))
        for part in piece.parts:
            yield from self._part(part)
        if piece.finish is not None:
            self._ending = _ending(piece)

    def last(self) -> Iterator[bytes]:
        """Yields the last events of a finished turn."""
        if self._ending is None:
            raise RuntimeError("an answer without its end")
        yield from self._close()
        yield _event(
            answer.MessageDelta(
                delta=self._ending, usage=_usage(self._turn), sheily=extension(self._turn)
            )
        )
        yield _event(answer.MessageStop())

    def error(self, problem: bytes) -> bytes:
        return error(problem)

    def _part(self, part: CallPart) -> Iterator[bytes]:
        if part.name is not None:
            call = answer.AnswerToolUse(id=_new_call_id(), name=part.name, input={})
            yield from self._begin(call)
        if part.arguments:
            yield _event(answer.BlockDelta(self._index, answer.InputDelta(part.arguments)))
        if part.ends:
            yield from self._close()

    def _begin(self, block: answer.AnswerBlock) -> Iterator[bytes]:
        yield from self._close()
        self._index += 1
        self._kind = type(block)
        yield _event(answer.BlockStart(self._index, block))

    def _close(self) -> Iterator[bytes]:
        if self._kind is not None:
            self._kind = None
            yield _event(answer.BlockStop(self._index))


def _event(said: answer.MessageEvent) -> bytes:
    """Writes an event, whose name is its type."""
    return event(msgspec.json.encode(said), str(said.__struct_config__.tag))


def _ending(last: Piece) -> answer.Ending:
    """Returns how an answer ended, as its last piece says."""
    if last.finish is None:
        raise RuntimeError("an answer without its end")
    if last.finish == "stop" and last.stop is not None:
        return answer.Ending(stop_reason="stop_sequence", stop_sequence=last.stop)
    return answer.Ending(stop_reason=_REASONS[last.finish], stop_sequence=None)


def _usage(turn: Turn) -> answer.MessageUsage:
    """Returns the token counts of a finished turn."""
    done = turn.done()
    return answer.MessageUsage(
        input_tokens=done.prompt_tokens - done.cached_tokens,
        output_tokens=done.completion_tokens,
        cache_read_input_tokens=done.cached_tokens,
    )


def _input(arguments: str) -> dict[str, Any]:
    """Returns the arguments of a call as an object; what there is of them if they were cut off."""
    for text in (arguments, completed(arguments)):
        try:
            found = msgspec.json.decode(text or "{}")
        except (msgspec.DecodeError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def _new_id() -> str:
    return f"msg_{secrets.token_hex(12)}"


def _new_call_id() -> str:
    return f"toolu_{secrets.token_hex(12)}"
