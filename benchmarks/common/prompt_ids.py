"""The token ids of a prompt, as the engine reads it."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence

from sheily_server.engine.reading import Reading
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.protocol.commands import PromptFormat, Segment
from sheily_server.templates.base import Message
from sheily_server.templates.registry import render


def prompt_ids(tokenizer: Tokenizer, segments: Sequence[Segment]) -> list[int]:
    reading = Reading(tokenizer, segments, most=sys.maxsize, param="messages")
    while reading.look() is not None:
        reading.advance()
    return reading.tokens


def user_prompt_ids(tokenizer: Tokenizer, dialect: PromptFormat, text: str) -> list[int]:
    """Those of today's prompt with one user message, as the server writes it."""
    segments = render(dialect, [Message("user", text)], date=datetime.date.today())
    return prompt_ids(tokenizer, segments)
