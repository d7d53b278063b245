"""Bodies of each route as structs, for the tests of what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from msgspec import Struct

from sheily_server.api import simple, tokens
from sheily_server.api.anthropic import decode as anthropic
from sheily_server.api.anthropic.protocol import CountTokensRequest, MessagesRequest
from sheily_server.api.completions import decode as completions
from sheily_server.api.completions.protocol import CompletionRequest
from sheily_server.api.openai_chat import decode
from sheily_server.api.openai_chat.protocol import ChatRequest
from sheily_server.api.responses import decode as responses
from sheily_server.api.responses.protocol import ResponseRequest
from sheily_server.api.simple import SimpleChatRequest
from sheily_server.api.tokens import DetokenizeRequest, TokenizeRequest

ShapeT = TypeVar("ShapeT", bound=Struct)

READ: dict[type[Struct], Callable[..., Any]] = {
    ChatRequest: decode.read,
    CompletionRequest: completions.read,
    ResponseRequest: responses.read,
    SimpleChatRequest: simple.read,
    TokenizeRequest: tokens.read_tokenize,
    DetokenizeRequest: tokens.read_detokenize,
    MessagesRequest: anthropic.read,
    CountTokensRequest: anthropic.read_count,
}


def decode_request(data: bytes, shape: type[ShapeT], strict: bool = False) -> ShapeT:
    """What the route of a shape makes of a body. Raises InvalidRequestError."""
    found = READ[shape](data, strict)
    return cast("ShapeT", found.request)


def ignored(data: bytes, shape: type[Struct]) -> list[str]:
    """The fields of a body that the route of a shape takes without effect."""
    return list(READ[shape](data).ignored)
