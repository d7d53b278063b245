"""Turns bytes of tokens into text that may be sent. Knows UTF-8 and stop strings, not tokens."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Turns the bytes of one answer, piece by piece, into its text.

    Holds back two things, as briefly as possible: a character whose last bytes have not arrived,
    and an end of the text that may begin a stop string. Invalid bytes become U+FFFD, as in
    `bytes.decode(errors="replace")`.

    The first stop string to be complete ends the answer; the longest wins when several complete
    with the same character. Neither it nor anything after it is emitted. The result does not
    depend on how the bytes were cut into pieces.

    >>> stream = TextStream(["END"])
    >>> stream.push(b"caf\\xc3"), stream.push(b"\\xa9 E"), stream.push(b"NDED"), stream.stopped
    ('caf', 'é ', '', True)
    """

    def __init__(self, stop: Sequence[str]) -> None:
        """`stop` may be empty. Raises ValueError when one of its strings is."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._matchers = [_Matcher(text) for text in stop]
        self._held = ""
        self._stop: str | None = None
        self._n_decoded = 0

    @property
    def n_begun(self) -> int:
        """How many characters the bytes so far have begun, including those never emitted."""
        return self._n_decoded + bool(self._decoder.getstate()[0])

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._stop is not None

    @property
    def stop(self) -> str | None:
        """The stop string that has ended the answer."""
        return self._stop

    def push(self, piece: bytes) -> str:
        """Returns the text that is now safe to send; empty after a stop."""
        return self._advance(self._decoder.decode(piece))

    def finish(self) -> str:
        """Returns the rest once no bytes follow, with U+FFFD for an incomplete character."""
        text = self._advance(self._decoder.decode(b"", final=True))
        text += self._held
        self._held = ""
        return text

    def _advance(self, text: str) -> str:
        self._n_decoded += len(text)
        if self.stopped:
            return ""
        if not self._matchers:
            return text
        pending = self._held + text
        for read, char in enumerate(text, len(self._held) + 1):
            for matcher in self._matchers:
                matcher.read(char)
            complete = [matcher.text for matcher in self._matchers if matcher.complete]
            if complete:
                self._stop = max(complete, key=len)
                self._held = ""
                return pending[: read - len(self._stop)]
        hold = max((matcher.matched for matcher in self._matchers), default=0)
        ready = len(pending) - hold
        self._held = pending[ready:]
        return pending[:ready]


class _Matcher:
    """Searches for one string in a text that arrives character by character (Knuth-Morris-Pratt).

    `matched` is the length of the longest suffix of the text that is a prefix of the string. So the
    time per character does not grow with the string, which a caller chooses.
    """

    __slots__ = ("_fallback", "length", "matched", "text")

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("a stop string must not be empty")
        self.text = text
        self._fallback = _fallbacks(text)
        self.length = len(text)
        self.matched = 0

    @property
    def complete(self) -> bool:
        return self.matched == self.length

    def read(self, char: str) -> None:
        """Takes the next character. Must not be called once `complete`."""
        matched = self.matched
        while matched and self.text[matched] != char:
            matched = self._fallback[matched]
        self.matched = matched + 1 if self.text[matched] == char else 0


def _fallbacks(text: str) -> list[int]:
    """Returns, for each n below len(text), the longest proper prefix of text[:n] that is a
    suffix."""
    table = [0, 0]
    for char in text[1:-1]:
        length = table[-1]
        while length and text[length] != char:
            length = table[length]
        table.append(length + 1 if text[length] == char else 0)
    return table
