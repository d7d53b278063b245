"""POST /v1/chat/completions: an answer in OpenAI's format, whole or as events."""

from __future__ import annotations

from msgspec.structs import replace

from ...backend.tickets import Ticket
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

HELLO = [{"role": "user", "content": "Name a river."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Madrid", "Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather in a city.", "parameters": CITY},
}


def completions(service: Service, asked: Asked) -> Whole | Stream | Waking:
    found = asked.read(service.reads(decode.read))
    request = found.request
    service.chat.check_model(request.model)
    wanted = decode.generation(found, service.config.max_history)
    request = replace(request, logit_bias=None)
    del found  # a bias of a whole vocabulary is large, and the request may wait
    logprobs = request.wanted_logprobs() is not None
    include_usage = bool(request.stream_options and request.stream_options.include_usage)

    def begin(ticket: Ticket) -> Stream:
        turn = service.chat.begin(wanted, asked.caller, ticket)
        chunks = encode.Chunks(
            turn,
            include_usage=include_usage,
            logprobs=logprobs,
            timed=bool(request.timings_per_token),
        )
        return Stream(turn, chunks)

    if request.stream:
        return streamed(service, asked, wanted, begin)
    turn = service.chat.begin(wanted, asked.caller)
    pieces = collect(service, turn, asked.caller)
    return whole(encode.whole(turn, pieces, logprobs), turn)


ROUTES = (
    Route(
        id="createChatCompletion",
        method="POST",
        path="/v1/chat/completions",
        summary="An answer in OpenAI's format, whole or as a stream of events",
        handle=completions,
        answer=answer.ChatCompletion,
        request=wire.ChatRequest,
        events=(answer.ChatCompletionChunk,),
        errors=WORK,
        examples={
            "whole": {"messages": HELLO, "max_tokens": 8},
            "stream": {
                "messages": HELLO,
                "max_tokens": 8,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            "tools": {"messages": HELLO, "tools": [WEATHER], "tool_choice": "required"},
            "structured": {
                "messages": HELLO,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "city", "schema": CITY, "strict": True},
                },
            },
            "logprobs": {"messages": HELLO, "max_tokens": 2, "logprobs": True, "top_logprobs": 3},
            "prediction": {
                "messages": HELLO,
                "max_tokens": 8,
                "prediction": {"type": "content", "content": "The Ebro."},
            },
        },
    ),
)
