"""Reads a logit bias: by token ids, as OpenAI has it, or by texts too, as llama-server has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import InvalidRequestError
from ...protocol.commands import Bias
from . import protocol as wire

FIELD = "logit_bias"
NEVER = -100.0
_IS_NUMBER = re.compile(r"[+-]?[0-9]+")
_MOST_DIGITS = 10


@dataclass(frozen=True, slots=True)
class ReadBias:
    """What is added to the logits of tokens, and to those of each token of texts."""

    ids: Bias
    texts: dict[str, float]


def read_bias(given: wire.LogitBias | None) -> ReadBias:
    """Returns the biases by id and by text; of several for the same, the last. Raises
    InvalidRequestError."""
    ids: dict[int, float] = {}
    texts: dict[str, float] = {}
    for token, value in _pairs(given):
        if isinstance(token, str) and not _is_number(token):
            texts[token] = value
        else:
            ids[_id(token)] = value
    n_bytes = sum(len(text.encode()) for text in texts)
    if "" in texts or len(texts) > wire.MAX_BIAS_TEXTS or n_bytes > wire.MAX_BIAS_BYTES:
        raise InvalidRequestError(
            f"The texts of {FIELD} must be at most {wire.MAX_BIAS_TEXTS}, none of them empty, with "
            f"at most {wire.MAX_BIAS_BYTES} bytes together.",
            FIELD,
        )
    return ReadBias(Bias.of(ids), texts)


def _pairs(given: wire.LogitBias | None) -> Iterator[tuple[int | str, float]]:
    for token, value in given.items() if isinstance(given, dict) else given or ():
        if value is True:
            raise InvalidRequestError("A bias is a number or false.", FIELD, "invalid_type")
        yield token, NEVER if value is False else value


def _is_number(text: str) -> bool:
    return text.isascii() and (text.isdigit() or _IS_NUMBER.fullmatch(text) is not None)


def _id(token: int | str) -> int:
    """Returns a token's id. The engine knows how many there are."""
    text = str(token)[: _MOST_DIGITS + 1] if isinstance(token, int) else token
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise InvalidRequestError(f"{text[:20]!r} is not a token id.", FIELD, "invalid_type")
    return int(text)
