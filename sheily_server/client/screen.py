"""What the client's programs print: answers, and notes beside them. Keeps text from controlling the
terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TextIO

# Control characters but tabs and line feeds, what changes the direction of other text, and lone
# surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_DIM, _RED, _PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"


def harmless(text: str) -> str:
    """Writes out what would control a terminal."""
    return _UNSAFE.sub(lambda found: _written(ord(found[0])), text)


def _written(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class Screen:
    """Prints answers on `out`, and notes and errors on `err`, in colours where that is a terminal.

    Raises OSError when nothing can be written any more.
    """

    def __init__(
        self, out: TextIO, err: TextIO, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._out = out
        self._err = err
        self._is_terminal = out.isatty()
        plain = environment.get("NO_COLOR") or environment.get("TERM") == "dumb"
        self._has_colours = err.isatty() and not plain
        self._column_0 = True

    def answer(self, text: str) -> None:
        """Prints a piece of an answer: as it is, unless it goes to a terminal."""
        self._out.write(harmless(text) if self._is_terminal else text)
        self._out.flush()
        self._column_0 = text.endswith("\n") if text else self._column_0

    def end_line(self) -> None:
        """Ends the line of an answer that has not ended it."""
        if not self._column_0:
            self.answer("\n")

    def note(self, text: str) -> None:
        """Prints a line about the answer."""
        self._line(text, _DIM)

    def error(self, text: str) -> None:
        self._line(f"error: {text}", _RED)

    def _line(self, text: str, colour: str) -> None:
        self.end_line()
        line = harmless(text)
        self._err.write(f"{colour}{line}{_PLAIN}\n" if self._has_colours else f"{line}\n")
        self._err.flush()
