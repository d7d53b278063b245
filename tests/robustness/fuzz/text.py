"""Bytes to text: an answer's bytes, cut anywhere and with stop strings, against the whole decoded
at once. An input is JSON: `pieces` as hexadecimal, and `stop`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random

from sheily_native import Model
from sheily_server.engine.text import TextStream
from tests.robustness.fuzz.running import Target, seeds
from tests.support import models
from tests.unit.engine.test_text import oracle

_EDGES = bytes((0x61, 0x7F, 0x80, 0xBF, 0xC1, 0xC3, 0xE0, 0xED, 0xA0, 0xEF, 0xF0, 0x9F, 0xF4, 0xFF))
_LETTERS = "abé漢😀\ufffd"


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    kept = [json.loads(data) for data in seeds("text")]

    def make(random: Random) -> bytes:
        if kept and random.random() < 0.05:
            found = random.choice(kept)
            pieces = [bytes.fromhex(piece) for piece in found["pieces"]]
            stops = list(found["stop"])
        else:
            pieces = _pieces(random)
            stops = _stops(random, b"".join(pieces))
        pieces = _cut_again(pieces, random)
        return json.dumps({"pieces": [piece.hex() for piece in pieces], "stop": stops}).encode()

    yield Target(make, check)


def check(data: bytes) -> str:
    body = json.loads(data)
    pieces = [bytes.fromhex(piece) for piece in body["pieces"]]
    expected, stop = oracle(b"".join(pieces).decode("utf-8", "replace"), body["stop"])
    stream = TextStream(body["stop"])
    sent = ""
    for piece in pieces:
        sent += stream.push(piece)
        assert expected.startswith(sent), (sent, expected)
    sent += stream.finish()
    assert (sent, stream.stop) == (expected, stop)
    assert stream.finish() == ""
    sent.encode()  # which fails for half a surrogate pair
    return "stopped" if stop else "to the end"


def _pieces(random: Random) -> list[bytes]:
    kind = random.randrange(4)
    n = random.randrange(40)
    if kind == 0:  # what a model could say: any tokens behind one another
        vocabulary = _vocabulary()
        return [random.choice(vocabulary) for _ in range(n)]
    if kind == 1:
        return [random.randbytes(random.randrange(4)) for _ in range(n)]
    if kind == 2:
        return [bytes([random.choice(_EDGES)]) for _ in range(n)]
    return [random.choice(_LETTERS).encode() for _ in range(n)]


def _stops(random: Random, data: bytes) -> list[str]:
    """Up to four strings, of which most are in the text or nearly so."""
    text = data.decode("utf-8", "replace")
    stops = []
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        begin = random.randrange(len(text) + 1)
        stop = text[begin : begin + random.choice((1, 2, 3, 8, 30))]
        if random.random() < 0.4:
            stop += random.choice(_LETTERS)
        stops.append(stop or random.choice(_LETTERS))
    return stops


def _cut_again(pieces: list[bytes], random: Random) -> list[bytes]:
    if random.random() < 0.5:
        return pieces
    data, again = b"".join(pieces), []
    while data:
        size = random.choice((1, 1, 2, 3, 7, 50))
        again.append(data[:size])
        data = data[size:]
    return again


@cache
def _vocabulary() -> list[bytes]:
    """The bytes of Llama 3's tokens, the text of control tokens included; every 7th of them."""
    with Model(models.VOCABULARY, vocab_only=True) as model:
        return [model.piece(token, special=True) for token in range(0, model.info.n_vocab, 7)]
