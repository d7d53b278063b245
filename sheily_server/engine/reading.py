"""Turns a prompt or text into token ids slice by slice. Can stop after each slice, and does as soon
as the text cannot fit. Knows tokenizers and kept answers, not threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sheily_native import TooManyTokensError

from ..protocol.commands import Segment
from .kvcache.answer_ids import AnswerIds
from .tokenizer import Tokenizer

SHORT = 16_384
"""Texts of up to this many bytes are always read to the end, to tell how many tokens they have."""
MOST_OF_A_SLICE = 1 << 20
"""Maximum bytes of a slice. Reading one takes 100 times its size in memory, and a second or two."""


class TextTooLongError(Exception):
    """Raised when a text has more tokens than there is room for: at least `least`."""

    def __init__(self, least: int) -> None:
        super().__init__(f"at least {least} tokens")
        self.least = least


class SliceTooLongError(Exception):
    """Raised when more than MOST_OF_A_SLICE bytes in a row cannot be cut. `param` says where."""

    def __init__(self, param: str) -> None:
        super().__init__(
            f"It has more than {MOST_OF_A_SLICE} bytes in a row in which it cannot be cut: one "
            "word, or, in some scripts, text without ASCII punctuation and line breaks."
        )
        self.param = param


class Reading:
    """Turns segments into token ids. Texts that are not short may have at most `most` tokens.
    `param` is the name of the text in the request.

    With `answers`, a segment that is the caller's earlier answer, after exactly the same tokens,
    gets the ids that it was generated with. With `markers`, the markers in plain segments are
    tokens.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        segments: Sequence[Segment],
        *,
        most: int,
        param: str,
        answers: AnswerIds | None = None,
        scope: str = "",
        markers: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._segments = segments
        self._most = most
        self._param = param
        self._answers = answers
        self._scope = scope
        self._markers = markers
        self._at = 0
        self._slices: Iterator[str] = iter(())
        self._next: str | None = None
        self._next_bytes = b""
        self.bytes_left = self._counted_left = 0
        for segment in segments:
            data = segment.text.encode()
            self.bytes_left += len(data)
            self._counted_left += tokenizer.n_counted(data)
        self.is_short = self.bytes_left <= SHORT
        self.tokens: list[int] = []
        self.n_before_last = 0
        """How many tokens precede those of the last segment, once that is read."""
        self.at_end = False
        """Whether everything is read."""

    def look(self) -> int | None:
        """Returns the size in bytes of the next slice, which `advance` reads; None once everything
        is read. Raises TextTooLongError and SliceTooLongError."""
        least = len(self.tokens) + self._tokenizer.least_tokens(self._counted_left)
        if least > self._most and not self.is_short:
            raise TextTooLongError(least)
        if self._next is None:
            self._next = self._next_slice()
            self.at_end = self._next is None
            self._next_bytes = b"" if self._next is None else self._next.encode()
        if self._next is None:
            return None
        if len(self._next_bytes) > MOST_OF_A_SLICE:
            raise SliceTooLongError(self._param)
        return len(self._next_bytes)

    def advance(self) -> None:
        """Reads the slice that `look` found. Raises TextTooLongError."""
        if self._next is not None:
            most = None if self.is_short else self._most - len(self.tokens)
            try:
                self.tokens += self._tokenizer.encode_slice(self._next, most)
            except TooManyTokensError as error:
                raise TextTooLongError(len(self.tokens) + error.count) from None
            self._leave_behind(self._next_bytes)
            self._next = None

    def _next_slice(self) -> str | None:
        """Returns the next slice to tokenize; adds segments with known ids on the way."""
        while True:
            part = next(self._slices, None)
            if part is not None or self._at == len(self._segments):
                return part
            self._begin(self._segments[self._at])
            self._at += 1

    def _begin(self, segment: Segment) -> None:
        self.n_before_last = len(self.tokens)
        known = None
        if segment.special:
            known = self._tokenizer.encode_marker(segment.text)
        elif self._answers is not None:
            known = self._answers.ids(self._scope, self.tokens, segment.text)
        if self._markers and not segment.special:
            self._slices = self._between_markers(segment.text)
        elif known is None:
            self._slices = self._tokenizer.slices(segment.text)
        else:
            self.tokens += known
            self._leave_behind(segment.text.encode())

    def _between_markers(self, text: str) -> Iterator[str]:
        """Yields the slices of a text without its markers, whose tokens it adds on the way. Raises
        TextTooLongError when the markers alone are too many."""
        for part, token in self._tokenizer.markers.split(text):
            if token is None:
                yield from self._tokenizer.slices(part)
                continue
            self.tokens.append(token)
            self._leave_behind(part.encode())
            if len(self.tokens) > self._most and not self.is_short:
                raise TextTooLongError(len(self.tokens))

    def _leave_behind(self, data: bytes) -> None:
        self.bytes_left -= len(data)
        self._counted_left -= self._tokenizer.n_counted(data)
