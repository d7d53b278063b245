"""POST /v1/tokenize, /v1/detokenize and /apply-template: texts and prompts as token ids, and
back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from ..chat.generation import Generation
from ..errors import InvalidRequestError
from ..protocol.events import Tokenized
from ..templates.base import Offer
from . import body
from .openai_chat.answer import Extension
from .openai_chat.decode import (
    check_arguments,
    check_tools,
    continues,
    offered_functions,
    refuse_media,
    to_message,
)
from .openai_chat.neutral import EFFECTLESS, NEUTRAL
from .openai_chat.protocol import MAX_MESSAGES, MAX_TOOLS, ChatMessage, Tool
from .openai_chat.routes import HELLO
from .route import WORK, Asked, Route, Service, Whole, whole

# With the longest tokens, 128 bytes each, their text is half of what a frame may hold.
MAX_DETOKENIZED = 262_144
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]


Messages = Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]


class _PromptRequest(Struct, frozen=True, kw_only=True):
    """What a prompt is made of beside messages, as in a chat request."""

    model: str | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class TokenizeRequest(_PromptRequest, frozen=True, kw_only=True):
    """The body of POST /tokenize: a text, or messages as a chat request has them."""

    text: str | None = None
    messages: Messages | None = None


class TemplateRequest(_PromptRequest, frozen=True, kw_only=True):
    """The body of POST /apply-template: messages as a chat request has them."""

    messages: Messages


class DetokenizeRequest(Struct, frozen=True, kw_only=True):
    """The body of POST /detokenize."""

    model: str | None = None
    tokens: Annotated[list[TokenId], Meta(max_length=MAX_DETOKENIZED)]


class TokenizeResponse(Struct, frozen=True):
    """Token ids, their count, and the text of each token. A piece may be part of a character
    (U+FFFD)."""

    tokens: list[int]
    count: int
    pieces: list[str]
    sheily: Extension


class TemplateResponse(Struct, frozen=True):
    """The text of a prompt, with its markers."""

    prompt: str
    sheily: Extension


class DetokenizeResponse(Struct, frozen=True):
    text: str
    sheily: Extension


TOKENIZE = body.Reader(TokenizeRequest, NEUTRAL, EFFECTLESS, refuse_media)
TEMPLATE = body.Reader(TemplateRequest, NEUTRAL, EFFECTLESS, refuse_media)
DETOKENIZE = body.Reader(DetokenizeRequest, NEUTRAL, EFFECTLESS)


def read_tokenize(data: bytes, strict: bool = False) -> body.Read[TokenizeRequest]:
    """Decodes the body of POST /tokenize. Raises InvalidRequestError."""
    found = TOKENIZE.read(data, strict)
    request = found.request
    _check_prompt(request)
    if (request.text is None) == (request.messages is None):
        raise InvalidRequestError("Give either text or messages.", "text")
    if request.tools and request.messages is None:
        raise InvalidRequestError("tools go with messages.", "tools")
    return found


def read_template(data: bytes, strict: bool = False) -> body.Read[TemplateRequest]:
    """Decodes the body of POST /apply-template. Raises InvalidRequestError."""
    found = TEMPLATE.read(data, strict)
    _check_prompt(found.request)
    return found


def _check_prompt(request: TokenizeRequest | TemplateRequest) -> None:
    check_tools(request.tools or [])
    check_arguments(request.chat_template_kwargs)


def read_detokenize(data: bytes, strict: bool = False) -> body.Read[DetokenizeRequest]:
    """Decodes the body of POST /detokenize. Raises InvalidRequestError."""
    return DETOKENIZE.read(data, strict)


def prompt_of(request: TokenizeRequest | TemplateRequest) -> Generation:
    """Returns what has the requested prompt. Raises InvalidRequestError."""
    messages = [to_message(message, i) for i, message in enumerate(request.messages or ())]
    offer = Offer(offered_functions(request.tools or ()))
    return Generation(
        messages=messages,
        offer=offer,
        continues=continues(messages, request),
        template_arguments=request.chat_template_kwargs or {},
    )


def tokenized(found: Tokenized, ignored: Sequence[str] = ()) -> TokenizeResponse:
    pieces = [piece.decode("utf-8", "replace") for piece in found.pieces]
    said = Extension(ignored=list(ignored))
    return TokenizeResponse(found.tokens, len(found.tokens), pieces, said)


def tokenize(service: Service, asked: Asked) -> Whole:
    read = asked.read(service.reads(read_tokenize))
    request = read.request
    service.chat.check_model(request.model)
    service.chat.tell_ignored(read.ignored)
    if request.text is not None:
        return whole(tokenized(service.chat.tokenize(request.text, asked.caller), read.ignored))
    wanted = prompt_of(request)
    ignored = [*read.ignored, *service.chat.unknown_arguments(wanted, asked.caller)]
    return whole(tokenized(service.chat.tokenize_prompt(wanted, asked.caller), ignored))


def apply_template(service: Service, asked: Asked) -> Whole:
    read = asked.read(service.reads(read_template))
    service.chat.check_model(read.request.model)
    service.chat.tell_ignored(read.ignored)
    wanted = prompt_of(read.request)
    ignored = [*read.ignored, *service.chat.unknown_arguments(wanted, asked.caller)]
    prompt = "".join(segment.text for segment in service.chat.prompt(wanted, asked.caller))
    return whole(TemplateResponse(prompt, Extension(ignored=ignored)))


def detokenize(service: Service, asked: Asked) -> Whole:
    read = asked.read(service.reads(read_detokenize))
    service.chat.check_model(read.request.model)
    service.chat.tell_ignored(read.ignored)
    text = service.chat.detokenize(read.request.tokens, asked.caller)
    return whole(DetokenizeResponse(text, Extension(ignored=list(read.ignored))))


ROUTES = (
    Route(
        id="tokenize",
        method="POST",
        path="/v1/tokenize",
        summary="The tokens of a text, or of the prompt that messages become",
        handle=tokenize,
        answer=TokenizeResponse,
        request=TokenizeRequest,
        errors=WORK,
        examples={"text": {"text": "Name a river."}, "messages": {"messages": HELLO}},
    ),
    Route(
        id="applyTemplate",
        method="POST",
        path="/apply-template",
        summary="The text of the prompt that messages become",
        handle=apply_template,
        answer=TemplateResponse,
        request=TemplateRequest,
        errors=(400, 404, 413, 415, 429, 503),
        examples={"messages": {"messages": HELLO}},
    ),
    Route(
        id="detokenize",
        method="POST",
        path="/v1/detokenize",
        summary="The text of tokens",
        handle=detokenize,
        answer=DetokenizeResponse,
        request=DetokenizeRequest,
        errors=WORK,
        examples={"tokens": {"tokens": [1, 2, 3]}},
    ),
)
