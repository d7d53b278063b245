"""A client of the server. Uses only the standard library, and nothing else of this project."""

from .client import LLMClient
from .errors import (
    BadRequestError,
    LLMAPIError,
    LLMConnectionError,
    LLMError,
    LLMProtocolError,
    LLMTimeoutError,
    RateLimitedError,
    ServerError,
    StreamInterruptedError,
)
from .replies import PipelineReply, Reply
from .sse import EventParser

__all__ = [
    "BadRequestError",
    "EventParser",
    "LLMAPIError",
    "LLMClient",
    "LLMConnectionError",
    "LLMError",
    "LLMProtocolError",
    "LLMTimeoutError",
    "PipelineReply",
    "RateLimitedError",
    "Reply",
    "ServerError",
    "StreamInterruptedError",
]
