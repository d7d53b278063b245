"""POST /v1/messages and /v1/messages/count_tokens: an answer, and the length of a prompt, in
Anthropic's format."""

from __future__ import annotations

from ...backend.tickets import Ticket
from ...chat.turn import Turn
from ...errors import ServiceError
from ..openai_chat.answer import Extension
from ..openai_chat.routes import CITY, HELLO
from ..route import (
    WORK,
    Asked,
    Route,
    Service,
    Stream,
    Waking,
    Whole,
    collect,
    streamed,
    whole,
)
from . import answer, decode, encode
from . import protocol as wire
from .conversation import conversation
from .dialect import ANTHROPIC

WEATHER = {"name": "weather", "description": "The weather in a city.", "input_schema": CITY}


def messages(service: Service, asked: Asked) -> Whole | Stream | Waking:
    found = asked.read(service.reads(decode.read))
    request = found.request
    service.chat.check_model(request.model)
    talk = conversation(request.system, request.messages)
    wanted = decode.generation(found, talk, service.config.max_history)

    def begin(ticket: Ticket | None = None) -> Turn:
        try:
            return service.chat.begin(wanted, asked.caller, ticket)
        except ServiceError as error:
            raise decode.reworded(error, talk.place) from None

    def stream(ticket: Ticket) -> Stream:
        turn = begin(ticket)
        return Stream(turn, encode.Events(turn))

    if request.stream:
        return streamed(service, asked, wanted, stream, encode.error)
    turn = begin()
    return whole(encode.whole(turn, collect(service, turn, asked.caller)), turn)


def count_tokens(service: Service, asked: Asked) -> Whole:
    found = asked.read(service.reads(decode.read_count))
    request = found.request
    service.chat.check_model(request.model)
    service.chat.tell_ignored(found.ignored)
    talk = conversation(request.system, request.messages)
    try:
        tokens = service.chat.tokenize_prompt(decode.prompt(request, talk), asked.caller)
    except ServiceError as error:
        raise decode.reworded(error, talk.place) from None
    said = Extension(ignored=list(found.ignored))
    return whole(answer.TokenCount(len(tokens.tokens), said))


ROUTES = (
    Route(
        id="createMessage",
        method="POST",
        path="/v1/messages",
        summary="An answer in Anthropic's format, whole or as a stream of events",
        handle=messages,
        answer=answer.MessageAnswer,
        request=wire.MessagesRequest,
        events=answer.EVENTS,
        errors=WORK,
        dialect=ANTHROPIC,
        examples={
            "whole": {"messages": HELLO, "max_tokens": 8},
            "stream": {"messages": HELLO, "max_tokens": 8, "stream": True},
            "system": {"system": "Be brief.", "messages": HELLO, "max_tokens": 8},
            "tools": {
                "messages": HELLO,
                "max_tokens": 60,
                "tools": [WEATHER],
                "tool_choice": {"type": "any"},
            },
            "structured": {
                "messages": HELLO,
                "max_tokens": 60,
                "output_config": {"format": {"type": "json_schema", "schema": CITY}},
            },
            "prefill": {
                "messages": [*HELLO, {"role": "assistant", "content": "The"}],
                "max_tokens": 8,
            },
        },
    ),
    Route(
        id="countMessageTokens",
        method="POST",
        path="/v1/messages/count_tokens",
        summary="The number of tokens of a prompt, in Anthropic's format",
        handle=count_tokens,
        answer=answer.TokenCount,
        request=wire.CountTokensRequest,
        errors=WORK,
        dialect=ANTHROPIC,
        examples={"messages": {"messages": HELLO}},
    ),
)
