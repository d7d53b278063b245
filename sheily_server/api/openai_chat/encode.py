"""Encodes the pieces of an answer in OpenAI's shapes: one completion, or the chunks of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ...chat.reader import Piece, Progress
from ...chat.turn import Turn, rate
from ...protocol.events import TokenLogprob
from ...templates.base import Call, CallPart
from ..route import event
from . import answer


def whole(turn: Turn, pieces: Sequence[Piece], logprobs: bool) -> answer.ChatCompletion:
    """Builds the completion of a finished turn."""
    choices = [
        _choice([piece for piece in pieces if piece.choice == i], i, logprobs)
        for i in range(turn.n)
    ]
    return answer.ChatCompletion(
        id=_new_id(),
        created=turn.created,
        model=turn.model,
        system_fingerprint=turn.fingerprint,
        choices=choices,
        usage=usage(turn),
        timings=timings(turn),
        sheily=extension(turn),
    )


class Chunks:
    """Writes the chunks of a stream as server-sent events, in OpenAI's order: the role of each
    choice, its pieces, its end, the usage if requested (with no choices), and [DONE]."""

    def __init__(
        self, turn: Turn, *, include_usage: bool, logprobs: bool, timed: bool = False
    ) -> None:
        """`timed` adds timings to each chunk with a token."""
        self._turn = turn
        self._timed = timed
        self._id = _new_id()
        self._include_usage = include_usage
        self._logprobs = logprobs
        self._n_open = turn.n

    def first(self) -> Iterator[bytes]:
        """Yields the chunks that need no token."""
        for choice in range(self._turn.n):
            told = extension(self._turn) if choice == 0 else UNSET
            yield self._chunk(choice, answer.Delta(role="assistant", content=""), sheily=told)

    def of(self, piece: Piece | Progress) -> Iterator[bytes]:
        """Yields a piece's chunks; none for the end of the last choice, which `last` yields."""
        if isinstance(piece, Progress):
            yield self._event([], prompt_progress=_progress(piece))
            return
        logprobs = _logprobs(piece.logprobs) if self._logprobs else None
        deltas = [
            answer.Delta(tool_calls=[_tool_call_part(part)])
            for part in piece.parts
            if part.name or part.arguments
        ]
        if not deltas and (piece.text or piece.logprobs):
            deltas = [answer.Delta(content=piece.text)]
        for delta in deltas:
            yield self._chunk(piece.choice, delta, logprobs, timings=self._timings())
            logprobs = None
        if piece.finish is not None:
            self._n_open -= 1
            if self._n_open:
                yield self._chunk(piece.choice, answer.Delta(), finish=piece.finish)

    def last(self) -> Iterator[bytes]:
        """Yields the last chunks of a finished turn: its last choice's end, the usage, [DONE]."""
        turn = self._turn
        choice, finish = list(turn.finish_reasons.items())[-1]
        yield self._chunk(
            choice, answer.Delta(), finish=finish, timings=timings(turn), sheily=extension(turn)
        )
        if self._include_usage:
            yield self._event([], usage=usage(turn))
        yield event(b"[DONE]")

    def error(self, problem: bytes) -> bytes:
        return event(problem)

    def _chunk(
        self,
        choice: int,
        delta: answer.Delta,
        logprobs: answer.Logprobs | None = None,
        *,
        finish: str | None = None,
        **fields: Any,
    ) -> bytes:
        """Writes an event about one choice. Its usage is null if the usage comes at the end."""
        about = answer.ChunkChoice(
            delta=delta, finish_reason=finish, index=choice, logprobs=logprobs
        )
        return self._event([about], usage=None if self._include_usage else UNSET, **fields)

    def _timings(self) -> answer.Timings | UnsetType:
        turn = self._turn
        if not self._timed or turn.first_token_s is None:
            return UNSET
        seconds = time.monotonic() - turn.began - turn.first_token_s
        n_tokens = sum(turn.n_tokens.values())
        return answer.Timings(
            predicted_n=n_tokens,
            predicted_ms=round(1000 * seconds, 3),
            predicted_per_second=rate(n_tokens - turn.n, seconds),
        )

    def _event(self, choices: list[answer.ChunkChoice], **fields: Any) -> bytes:
        return chunk(answer.ChatCompletionChunk, self._turn, self._id, choices, **fields)


def _progress(found: Progress) -> answer.PromptProgress:
    return answer.PromptProgress(
        total=found.prompt_tokens,
        cache=found.cached_tokens,
        processed=found.computed_tokens,
        queue_place=found.queue_place,
    )


def _choice(pieces: Sequence[Piece], index: int, logprobs: bool) -> answer.Choice:
    calls = [_tool_call(call) for piece in pieces for call in piece.calls]
    text = "".join(piece.text for piece in pieces)
    content = text if text or not calls else None
    message = answer.AnswerMessage(content=content, tool_calls=calls or UNSET)
    tokens = [logprob for piece in pieces for logprob in piece.logprobs]
    finish = pieces[-1].finish
    if finish is None:
        raise RuntimeError("an answer without its end")
    return answer.Choice(
        message=message,
        finish_reason=finish,
        index=index,
        logprobs=_logprobs(tokens) if logprobs else None,
    )


def _tool_call(call: Call) -> answer.AnswerToolCall:
    return answer.AnswerToolCall(new_call_id(), answer.AnswerCall(call.name, call.arguments))


def _tool_call_part(part: CallPart) -> answer.ToolCallPart:
    """Returns what a chunk says of a part of a call."""
    if part.name is None:
        return answer.ToolCallPart(part.index, answer.CallPart(arguments=part.arguments))
    function = answer.CallPart(name=part.name, arguments=part.arguments)
    return answer.ToolCallPart(part.index, function, id=new_call_id(), type="function")


def new_call_id() -> str:
    """Returns an id for a call."""
    return f"call_{secrets.token_hex(12)}"


def _logprobs(tokens: Sequence[TokenLogprob]) -> answer.Logprobs:
    return answer.Logprobs(token_logprobs(tokens))


def token_logprobs(tokens: Sequence[TokenLogprob]) -> list[answer.Logprob]:
    """Returns the log-probabilities of tokens in OpenAI's shape."""
    return [
        answer.Logprob(
            token=_text(token.piece),
            logprob=token.logprob,
            bytes=list(token.piece),
            top_logprobs=[
                answer.TopLogprob(_text(piece), value, list(piece)) for piece, value in token.top
            ],
        )
        for token in tokens
    ]


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def chunk(
    kind: Callable[..., Struct], turn: Turn, id: str, choices: Sequence[Struct], **fields: Any
) -> bytes:
    """Writes an event of a turn's stream, whose struct is `kind`."""
    made = kind(
        id=id,
        created=turn.created,
        model=turn.model,
        system_fingerprint=turn.fingerprint,
        choices=choices,
        **fields,
    )
    return event(msgspec.json.encode(made))


def usage(turn: Turn) -> answer.Usage:
    """Returns the token counts of a finished turn."""
    done = turn.done()
    return answer.Usage(
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.completion_tokens,
        total_tokens=done.prompt_tokens + done.completion_tokens,
        prompt_tokens_details=answer.CachedTokens(done.cached_tokens),
        completion_tokens_details=answer.CompletionTokensDetails(
            accepted_prediction_tokens=done.accepted_prediction_tokens,
            rejected_prediction_tokens=done.rejected_prediction_tokens,
            text_tokens=done.completion_tokens,
        ),
    )


def extension(turn: Turn) -> answer.Extension:
    return answer.Extension(
        dropped_messages=turn.dropped_messages,
        timed_out=turn.timed_out,
        clamped=turn.clamped,
        ignored=list(turn.ignored),
        relaxed=list(turn.relaxed),
    )


def timings(turn: Turn) -> answer.Timings:
    """Returns the times of a finished turn."""
    done = turn.done()
    computed = done.prompt_tokens - done.cached_tokens
    return answer.Timings(
        predicted_n=done.completion_tokens,
        queued_ms=round(1000 * done.queued_s, 3),
        prompt_ms=round(1000 * done.prefill_s, 3),
        predicted_ms=round(1000 * done.decode_s, 3),
        prompt_per_second=rate(computed, done.prefill_s),
        predicted_per_second=turn.tokens_per_second(),
        cache_n=done.cached_tokens,
        cache_disk_n=done.disk_tokens,
        preempted=done.preempted,
        draft_n=done.drafted_tokens,
        draft_n_accepted=done.accepted_tokens,
    )
