"""The token ids of a prompt, as the engine reads it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sheily_server.engine.reading import Reading
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.protocol.messages import Segment


def prompt_ids(tokenizer: Tokenizer, segments: Sequence[Segment]) -> list[int]:
    reading = Reading(tokenizer, segments, sys.maxsize, "messages")
    while reading.look() is not None:
        reading.advance()
    return reading.tokens
