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
    ResponseCancelledError,
    ServerError,
    StreamInterruptedError,
)
from .replies import PipelineReply, Reply
from .responses import Call, Response
from .sse import EventParser
from .streams import ResponseStream

__all__ = [
    "BadRequestError",
    "Call",
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
    "Response",
    "ResponseCancelledError",
    "ResponseStream",
    "ServerError",
    "StreamInterruptedError",
]
