"""Parses server-sent events."""

from __future__ import annotations

from collections.abc import Iterator


class EventParser:
    """Turns the bytes of a `text/event-stream`, fed in any pieces, into the data of its events.

    Follows https://html.spec.whatwg.org/multipage/server-sent-events.html: lines end with CRLF, LF
    or CR, comments and fields other than `data` are ignored, several `data` lines make one event,
    and an event that no blank line ends is dropped.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._at_start = True
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yields the data of events that `piece` ends. Raises UnicodeDecodeError for bad UTF-8."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._after_cr = False
        if not piece:
            return
        self._after_cr = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in piece:
            self._rest += piece
            return
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            yield from self._line(line.decode("utf-8"))

    def _line(self, line: str) -> Iterator[str]:
        if self._at_start:
            line = line.removeprefix("\ufeff")
            self._at_start = False
        field, _, value = line.partition(":")
        if field == "data":
            self._data.append(value.removeprefix(" "))
        elif not line and self._data:
            yield "\n".join(self._data)
            self._data = []
