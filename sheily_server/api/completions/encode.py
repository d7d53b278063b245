"""Encodes the pieces of answers to raw prompts in OpenAI's shapes: one completion, or the chunks of
a stream."""

from __future__ import annotations

import codecs
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UNSET

from ...chat.reader import Piece, Progress
from ...chat.turn import Turn
from ...protocol.events import PromptToken, TokenLogprob
from ..openai_chat.encode import chunk, extension, timings, usage
from ..route import event
from . import protocol as wire


def whole(
    turn: Turn, pieces: Sequence[Piece], *, n: int, best_of: int, logprobs: bool
) -> wire.Completion:
    """Builds the completion of a finished turn: for each prompt the `n` best of its `best_of`
    answers, which are all of them or those with the highest mean log-probability."""
    choices = [Text(logprobs) for _ in range(turn.n)]
    for piece in pieces:
        choices[piece.choice].take(piece)
    kept = [
        choice
        for begin in range(0, turn.n, best_of)
        for choice in _best(choices[begin : begin + best_of], n)
    ]
    return wire.Completion(
        id=_new_id(),
        created=turn.created,
        model=turn.model,
        system_fingerprint=turn.fingerprint,
        choices=[choice.whole(i) for i, choice in enumerate(kept)],
        usage=usage(turn),
        timings=timings(turn),
        sheily=extension(turn),
    )


class Text:
    """Puts together the text of one choice, from its prompt's tokens if these are told and from its
    answer, and the columns of its tokens where they are wanted."""

    def __init__(self, logprobs: bool) -> None:
        self._wants_logprobs = logprobs
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._in_prompt = False
        self._n_begun = 0
        """How many characters precede the next token."""
        self._texts: list[str] = []
        self._columns = wire.CompletionLogprobs([], [], [], [])
        self._sum = 0.0
        self._n_answer = 0
        self._finish: str | None = None

    @property
    def mean_logprob(self) -> float:
        """Mean log-probability of the answer's tokens."""
        return self._sum / max(1, self._n_answer)

    def take(self, piece: Piece) -> None:
        self._finish = piece.finish or self._finish
        if piece.prompt:
            self._in_prompt = True
        elif self._in_prompt:
            self._begin_answer()
        for told in piece.prompt:
            self._texts.append(self._place(told, told.logprob))
        self._texts.append(piece.text)
        for token in piece.logprobs:
            self._sum += token.logprob
            self._n_answer += 1
            self._place(token, token.logprob)

    def whole(self, index: int) -> wire.CompletionChoice:
        if self._finish is None:
            raise RuntimeError("an answer without its end")
        return self.part(index, self._finish)

    def part(self, index: int, finish: str | None = None) -> wire.CompletionChoice:
        """Returns what came since the last call."""
        text, columns = "".join(self._texts), self._columns
        self._texts, self._columns = [], wire.CompletionLogprobs([], [], [], [])
        logprobs = columns if self._wants_logprobs and columns.tokens else None
        return wire.CompletionChoice(
            text=text, index=index, logprobs=logprobs, finish_reason=finish
        )

    def _begin_answer(self) -> None:
        """Ends the prompt, which may stop inside a character."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._in_prompt = False
        self._n_begun += len(rest)
        self._texts.append(rest)

    def _place(self, token: PromptToken | TokenLogprob, logprob: float | None) -> str:
        """Puts a token into the columns, and returns the characters that it completes."""
        offset, text = self._n_begun, self._decoder.decode(token.piece)
        self._n_begun += len(text)
        if not self._wants_logprobs:
            return text
        top = None
        if logprob is not None:
            top = {_name(piece): value for piece, value in token.top}
            top.setdefault(_name(token.piece), logprob)
        self._columns.tokens.append(_name(token.piece))
        self._columns.token_logprobs.append(logprob)
        self._columns.top_logprobs.append(top)
        self._columns.text_offset.append(offset)
        return text


class Chunks:
    """Writes the chunks of a stream as server-sent events: the pieces of each choice, its end, the
    usage if requested (with no choices), and [DONE]."""

    def __init__(self, turn: Turn, include_usage: bool, logprobs: bool) -> None:
        self._turn = turn
        self._id = _new_id()
        self._include_usage = include_usage
        self._texts = [Text(logprobs) for _ in range(turn.n)]
        self._n_open = turn.n
        self._is_first = True

    def first(self) -> Iterator[bytes]:
        """Yields nothing: a completion's text begins with its first token."""
        yield from ()

    def of(self, piece: Piece | Progress) -> Iterator[bytes]:
        """Yields a piece's chunks; none for the end of the last choice, which `last` yields."""
        if isinstance(piece, Progress):
            return
        text = self._texts[piece.choice]
        text.take(piece)
        part = text.part(piece.choice)
        if part.text or part.logprobs is not None:
            yield self._chunk(part)
        if piece.finish is not None:
            self._n_open -= 1
            if self._n_open:
                yield self._chunk(text.part(piece.choice, piece.finish))

    def last(self) -> Iterator[bytes]:
        """Yields the last chunks of a finished turn: its last choice's end, the usage, [DONE]."""
        turn = self._turn
        choice, finish = list(turn.finish_reasons.items())[-1]
        end = self._texts[choice].part(choice, finish)
        yield self._chunk(end, timings=timings(turn), sheily=extension(turn))
        if self._include_usage:
            yield self._event([], usage=usage(turn))
        yield event(b"[DONE]")

    def error(self, problem: bytes) -> bytes:
        return event(problem)

    def _chunk(self, choice: wire.CompletionChoice, **fields: Any) -> bytes:
        """Writes an event about one choice. Its usage is null if the usage comes at the end."""
        if self._is_first:
            fields.setdefault("sheily", extension(self._turn))
            self._is_first = False
        return self._event([choice], usage=None if self._include_usage else UNSET, **fields)

    def _event(self, choices: list[wire.CompletionChoice], **fields: Any) -> bytes:
        return chunk(wire.CompletionChunk, self._turn, self._id, choices, **fields)


def _best(choices: Sequence[Text], n: int) -> Sequence[Text]:
    if n == len(choices):
        return choices
    return sorted(choices, key=lambda choice: choice.mean_logprob, reverse=True)[:n]


def _name(piece: bytes) -> str:
    """Returns the text of a token, or its bytes in hex where they are not text: as text they would
    be equal."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def _new_id() -> str:
    return f"cmpl-{secrets.token_hex(12)}"
