"""Reads the texts of a logit bias as tokens."""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from ..protocol.commands import Bias, Segment, Submit
from .reading import Reading
from .tokenizer import Tokenizer

MOST_TOKENS = 16_384
"""Maximum number of tokens of a text, more than the API lets it have bytes."""


def with_bias(tokenizer: Tokenizer, submit: Submit) -> Generator[Reading, None, Submit]:
    """Yields what is to be read, and returns the request with a bias by token ids alone. A token
    that is in several texts gets what the last of them says. Markers in a text are text."""
    biases: dict[int, float] = {}
    for text, value in submit.bias_texts.items():
        segments = [Segment(text, False)]
        reading = Reading(tokenizer, segments, most=MOST_TOKENS, param="logit_bias")
        yield reading
        biases |= dict.fromkeys(reading.tokens, value)
    bias = Bias.of(submit.sampling.logit_bias.without(biases) | biases)
    sampling = msgspec.structs.replace(submit.sampling, logit_bias=bias)
    return msgspec.structs.replace(submit, sampling=sampling, bias_texts={})
