"""Bytes of tokens to text that may be sent; knows UTF-8 and stop strings, not tokens."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Turns the bytes of one answer, piece by piece, into its text.

    Two things are held back, as briefly as they can be: a character whose last bytes have not
    come, and an end of the text that may be the beginning of a stop string. Bytes that can become
    no character give U+FFFD, as in `bytes.decode(errors="replace")`.

    The stop string that is complete first ends the answer; of several complete with one character,
    the longest. It and all after it are never emitted. The result does not depend on how the
    bytes were cut into pieces.

    >>> stream = TextStream(["END"])
    >>> stream.push(b"caf\\xc3"), stream.push(b"\\xa9 E"), stream.push(b"NDED"), stream.stopped
    ('caf', 'é ', '', True)
    """

    def __init__(self, stop: Sequence[str]) -> None:
        """`stop` may be empty; ValueError if one of its strings is."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._matchers = [_Matcher(text) for text in stop]
        self._held = ""
        self._stopped = False
        self._n_decoded = 0

    @property
    def n_begun(self) -> int:
        """How many characters the bytes so far have begun, those never emitted included."""
        return self._n_decoded + bool(self._decoder.getstate()[0])

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._stopped

    def push(self, piece: bytes) -> str:
        """The text that is now safe to send; empty after a stop."""
        return self._advance(self._decoder.decode(piece))

    def finish(self) -> str:
        """The rest, once no bytes follow; U+FFFD for a character that was left incomplete."""
        text = self._advance(self._decoder.decode(b"", final=True))
        text += self._held
        self._held = ""
        return text

    def _advance(self, text: str) -> str:
        self._n_decoded += len(text)
        if self._stopped:
            return ""
        if not self._matchers:
            return text
        pending = self._held + text
        for read, char in enumerate(text, len(self._held) + 1):
            for matcher in self._matchers:
                matcher.read(char)
            complete = [matcher.length for matcher in self._matchers if matcher.complete]
            if complete:
                self._stopped = True
                self._held = ""
                return pending[: read - max(complete)]
        hold = max((matcher.matched for matcher in self._matchers), default=0)
        ready = len(pending) - hold
        self._held = pending[ready:]
        return pending[:ready]


class _Matcher:
    """Looks for one string in a text that comes a character at a time (Knuth-Morris-Pratt).

    `matched` is the length of the longest end of the text that begins the string, so the time a
    character takes does not grow with the string, which a caller chooses.
    """

    __slots__ = ("_fallback", "_text", "length", "matched")

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("a stop string must not be empty")
        self._text = text
        self._fallback = _fallbacks(text)
        self.length = len(text)
        self.matched = 0

    @property
    def complete(self) -> bool:
        return self.matched == self.length

    def read(self, char: str) -> None:
        """Take the next character; not to be called once `complete`."""
        matched = self.matched
        while matched and self._text[matched] != char:
            matched = self._fallback[matched]
        self.matched = matched + 1 if self._text[matched] == char else 0


def _fallbacks(text: str) -> list[int]:
    """For each n below len(text), the longest proper beginning of text[:n] that also ends it."""
    table = [0, 0]
    for char in text[1:-1]:
        length = table[-1]
        while length and text[length] != char:
            length = table[length]
        table.append(length + 1 if text[length] == char else 0)
    return table
