"""Damaged GGUF files, against our own check of them: a sentence or what the file has, soon, and
without memory that only the file claims to need."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from tests.robustness.fuzz import gguf_bytes
from tests.robustness.fuzz.running import Target

MOST_GROWTH = 512 << 20
"""Bytes that the process may grow by; the largest header that the check takes has half of it."""
MOST_SENTENCE = 1000


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    path = folder / "case.gguf"
    before = _peak()

    def checked(data: bytes) -> str:
        outcome = check(data, path)
        grown = _peak() - before
        assert grown < MOST_GROWTH, f"the process grew by {grown >> 20} MiB"
        return outcome

    def extra() -> dict[str, Any]:
        return {"grown_mib": (_peak() - before) >> 20}

    def make(random: Random) -> bytes:
        return gguf_bytes.make(random, folder)

    make(Random(0))  # so that what it takes is there before
    before = _peak()
    yield Target(make, checked, extra=extra)


def check(data: bytes, path: Path) -> str:
    from sheily_server.backend import gguf

    gguf_bytes.write(data, path)
    try:
        gguf.check(path)
    except gguf.GGUFError as error:
        _judge(str(error))
        return "refused"
    return "whole"


def passes(path: Path) -> bool:
    """Whether our own check lets a file go on to native code."""
    from sheily_server.backend import gguf

    try:
        gguf.check(path)
    except gguf.GGUFError:
        return False
    return True


def _judge(sentence: str) -> None:
    """A sentence that can stand in a log and in `/health`, whatever the file has."""
    assert sentence
    assert sentence.isprintable(), repr(sentence)
    assert len(sentence) < MOST_SENTENCE, repr(sentence)


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
