"""POST /v1/completions: what a model writes behind prompts, in OpenAI's format."""

from __future__ import annotations

from msgspec.structs import replace

from ...backend.tickets import Ticket
from ...errors import InvalidRequestError
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
from . import decode, encode
from . import protocol as wire


def completions(service: Service, asked: Asked) -> Whole | Stream | Waking:
    found = asked.read(service.reads(decode.read))
    request = found.request
    service.chat.check_model(request.model)
    n = request.n or 1
    best_of = request.best_of or n
    if best_of > max(n, service.config.parallel):
        raise InvalidRequestError(
            f"best_of is {best_of}; this server makes at most {service.config.parallel} answers to "
            "a prompt (LLM_PARALLEL).",
            "best_of",
        )
    wanted = decode.generation(found)
    request = replace(request, prompt="", logit_bias=None)
    del found  # prompts and a bias of a whole vocabulary are large, and the request may wait
    logprobs = request.logprobs is not None
    include_usage = bool(request.stream_options and request.stream_options.include_usage)

    def begin(ticket: Ticket) -> Stream:
        turn = service.chat.begin(wanted, asked.caller, ticket)
        return Stream(turn, encode.Chunks(turn, include_usage, logprobs))

    if request.stream:
        return streamed(service, asked, wanted, begin)
    turn = service.chat.begin(wanted, asked.caller)
    pieces = collect(service, turn, asked.caller)
    return whole(encode.whole(turn, pieces, n=n, best_of=best_of, logprobs=logprobs), turn)


ROUTES = (
    Route(
        id="createCompletion",
        method="POST",
        path="/v1/completions",
        summary="What the model writes behind a prompt, in OpenAI's format",
        handle=completions,
        answer=wire.Completion,
        request=wire.CompletionRequest,
        events=(wire.CompletionChunk,),
        errors=WORK,
        examples={
            "text": {"prompt": "The capital of France is", "max_tokens": 8},
            "prompts": {"prompt": ["1, 2, 3,", "a, b, c,"], "max_tokens": 4, "temperature": 0},
            "tokens": {"prompt": [1, 2, 3], "max_tokens": 2},
            "stream": {
                "prompt": "The capital of France is",
                "max_tokens": 8,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            "scores": {"prompt": "Once upon a time", "max_tokens": 0, "echo": True, "logprobs": 1},
        },
    ),
)
