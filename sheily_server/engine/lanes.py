"""Decides which thread reads which text. Short texts are read at once; long ones on threads of
lower priority, shortest first. Knows threads and sizes, not what becomes of a text."""

from __future__ import annotations

import logging
import os
import threading
from typing import Protocol

from .priority import give_way
from .vitals import Vitals

log = logging.getLogger(__name__)

LARGE_SLICE = 65_536
"""Bytes of the largest slice that may keep other long texts waiting. Larger slices, which cannot be
cut, are read one at a time on a separate thread."""


class Text(Protocol):
    """A text to read slice by slice."""

    @property
    def bytes_left(self) -> int: ...

    @property
    def is_short(self) -> bool:
        """Whether it takes at most 25 ms, so that it is read at once."""

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""

    def look(self) -> int | None:
        """Returns the size of the next slice in bytes; None at the end."""

    def advance(self) -> None:
        """Reads the next slice."""

    def end(self, error: Exception | None) -> None:
        """Called when everything is read, or when reading failed with `error`."""


class Lanes:
    """Reads texts. Thread-safe."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._sliced = _Lane("texts", self._a_slice)
        self._whole = _Lane("whole-texts", self._a_large_slice)

    def read(self, text: Text) -> None:
        """Reads a short text now, a long one later."""
        if not text.is_short:
            self._sliced.put(text)
            return
        while self._go_on(text, None):
            pass

    def _a_slice(self, text: Text) -> None:
        if self._go_on(text, LARGE_SLICE):
            self._sliced.put(text)

    def _a_large_slice(self, text: Text) -> None:
        if self._go_on(text, None):
            self._sliced.put(text)

    def _go_on(self, text: Text, most: int | None) -> bool:
        """Reads one slice; returns whether there is more. Hands on a slice larger than `most`."""
        if not text.wanted:
            return False
        try:
            n_bytes = text.look()
            if n_bytes is not None and most is not None and n_bytes > most:
                self._whole.put(text)
                return False
            if n_bytes is not None:
                with self._vitals.reading(n_bytes):
                    text.advance()
                return True
        except Exception as error:
            text.end(error)
            return False
        text.end(None)
        return False


class _Lane:
    """A thread that works on the texts it is given, shortest first."""

    def __init__(self, name: str, work: _Work) -> None:
        self._work = work
        self._texts: list[Text] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def put(self, text: Text) -> None:
        with self._changed:
            self._texts.append(text)
            if not self._thread.ident:
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        try:
            give_way(threading.get_native_id())
            while True:
                self._work(self._next())
        except BaseException:  # a dead lane would keep its texts forever
            log.exception("the thread that reads long texts failed")
            os._exit(1)

    def _next(self) -> Text:
        with self._changed:
            self._changed.wait_for(lambda: self._texts)
            text = min(self._texts, key=lambda text: text.bytes_left)
            self._texts.remove(text)
            return text


class _Work(Protocol):
    def __call__(self, text: Text) -> None: ...
