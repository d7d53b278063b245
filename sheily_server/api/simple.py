"""POST /chat, for scripts: a message with its history in, text out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from ..chat.generation import Generation
from ..chat.reader import Piece
from ..chat.turn import Turn
from ..errors import InvalidRequestError, ServiceError
from ..templates.base import Offer
from . import body
from .openai_chat import protocol as wire
from .openai_chat.answer import Extension, FinishReason, Usage
from .openai_chat.decode import asked, check_options, refuse_media
from .openai_chat.encode import extension, usage
from .openai_chat.neutral import EFFECTLESS, NEUTRAL
from .openai_chat.protocol import MAX_MESSAGES, ChatMessage, Options
from .openai_chat.routes import HELLO
from .route import WORK, Asked, Route, Service, Whole, collect, whole

HISTORY = 10
"""Messages kept where LLM_MAX_HISTORY is not set: scripts send all they have."""


class SimpleChatRequest(Options, frozen=True, kw_only=True):
    """The body of POST /chat: a message with its history, or messages as OpenAI has them."""

    message: str | None = None
    history: Annotated[list[ChatMessage], Meta(max_length=MAX_MESSAGES)] | None = None
    system: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = (
        None
    )


class SimpleChatResponse(Struct, frozen=True, kw_only=True):
    """The answer of POST /chat. `dropped_messages` and `timed_out` are in `sheily` too."""

    response: str
    model: str
    finish_reason: FinishReason
    usage: Usage
    dropped_messages: int
    timed_out: bool
    sheily: Extension


READER = body.Reader(SimpleChatRequest, NEUTRAL, EFFECTLESS, refuse_media)


def read(data: bytes, strict: bool = False) -> body.Read[SimpleChatRequest]:
    """Decodes the body of POST /chat. Raises InvalidRequestError."""
    found = READER.read(data, strict)
    check_options(found.request)
    return found


def generation(found: body.Read[SimpleChatRequest], history: int | None) -> Generation:
    """Returns what a body asks for. Raises InvalidRequestError."""
    messages = messages_of(found.request)
    return asked(
        found.request, messages, Offer(), history=history or HISTORY, ignored=found.ignored
    )


def answer(turn: Turn, pieces: Sequence[Piece]) -> SimpleChatResponse:
    """Builds the answer of a finished turn."""
    return SimpleChatResponse(
        response="".join(piece.text for piece in pieces),
        model=turn.model,
        finish_reason=turn.finish_reasons[0],
        usage=usage(turn),
        dropped_messages=turn.dropped_messages,
        timed_out=turn.timed_out,
        sheily=extension(turn),
    )


def messages_of(request: SimpleChatRequest) -> list[wire.ChatMessage]:
    """Returns the conversation that a body of POST /chat means. Raises ServiceError."""
    if (request.message is None) == (request.messages is None):
        raise InvalidRequestError("Give either message or messages.", "message")
    if request.messages is not None:
        if request.history is not None or request.system is not None:
            raise InvalidRequestError(
                "history and system go with message; put them into messages.",
                "history" if request.history is not None else "system",
            )
        return request.messages
    messages: list[wire.ChatMessage] = []
    if request.system is not None:
        messages.append(wire.SystemMessage(content=request.system))
    messages += request.history or []
    messages.append(wire.UserMessage(content=request.message or ""))
    return messages


def place(request: SimpleChatRequest, param: str | None) -> str | None:
    """Translates a place in the messages of `messages_of` to its name in the body of POST /chat."""
    if request.message is None or param is None or not param.startswith("messages"):
        return param
    place = re.fullmatch(r"messages\[(\d+)\](.*)", param)
    if place is None:
        return "message"
    index = int(place[1]) - (request.system is not None)
    if index < 0:
        return "system"
    return f"history[{index}]{place[2]}" if index < len(request.history or ()) else "message"


def chat(service: Service, asked: Asked) -> Whole:
    found = asked.read(service.reads(read))
    request = found.request
    service.chat.check_model(request.model)
    try:
        wanted = generation(found, service.config.max_history)
        request = replace(request, logit_bias=None)
        del found  # a bias of a whole vocabulary is large, and the request may wait
        turn = service.chat.begin(wanted, asked.caller)
    except ServiceError as error:
        error.param = place(request, error.param)
        raise
    return whole(answer(turn, collect(service, turn, asked.caller)), turn)


ROUTES = (
    Route(
        id="chat",
        method="POST",
        path="/chat",
        summary="An answer for scripts: a message with its history in, text out",
        handle=chat,
        answer=SimpleChatResponse,
        request=SimpleChatRequest,
        errors=WORK,
        examples={
            "message": {"message": "Name a river.", "system": "Be brief.", "max_tokens": 8},
            "history": {
                "message": "And another?",
                "history": [*HELLO, {"role": "assistant", "content": "The Ebro."}],
                "max_tokens": 8,
            },
            "messages": {"messages": HELLO, "max_tokens": 8},
        },
    ),
)
