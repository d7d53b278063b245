"""OpenAI's dialect of responses: the same error object, other fields, events with names."""

from __future__ import annotations

from ..dialect import Dialect
from ..openai_chat.dialect import ErrorResponse, write
from .protocol import EFFECTLESS, NEUTRAL

RESPONSES = Dialect(error=ErrorResponse, write=write, neutral=NEUTRAL, effectless=EFFECTLESS)
