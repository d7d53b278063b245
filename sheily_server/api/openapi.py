"""The OpenAPI document: which routes there are, what goes in and what can come out. Made from the
structs that requests and answers pass through; knows nothing of how a route does its work."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, UnsetType

from ..backend.health import STATES
from ..version import package_version
from . import simple, tokens
from .openai_chat import protocol as openai

VERSION = "3.1.0"
OPEN_PATHS = ("/health", "/livez")
"""What anyone may ask without a key: whether the server lives."""

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain"
_COMPONENT = "#/components/schemas/{name}"

Fraction = Annotated[float, Meta(ge=0, le=1)]
State = Annotated[str, Meta(extra_json_schema={"enum": list(STATES)})]


class Health(Struct, frozen=True):
    """Whether a request would be served now. `progress` is the loaded part of the model's file;
    `reason` says why the state is not ready; `context_size` is in tokens; `kernel` multiplies Q8_0
    weights, null for llama.cpp's own and while the state is not ready.

    `queue` is how many requests may wait, `queued` how many do; `active_requests` are these and
    those of which an answer has a slot. `answers_running` and `answers_queued` count each of the
    `n` answers of a request. `last_step_age_s` is null before the engine's first step. KV cells:
    all of them, those of running requests, and those that hold a prefix alone; null while there is
    no engine."""

    status: Literal["ok", "unavailable"]
    state: State
    model: str
    model_path: str
    context_size: int
    reason: str | None
    progress: Fraction | None
    parallel: int
    queue: int
    active_requests: int
    queued: int
    answers_running: int
    answers_queued: int
    engine_restarts: int
    last_step_age_s: float | None
    kv_cells: int | None
    kv_cells_used: int | None
    kv_cells_cached: int | None
    kernel: str | None


class Live(Struct, frozen=True):
    """The server process answers, whatever its engine does."""

    status: Literal["ok"] = "ok"


class Model(Struct, frozen=True):
    """The model this server runs; `created` is when the server started, in Unix seconds."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "local"


class ModelList(Struct, frozen=True):
    data: list[Model]
    object: Literal["list"] = "list"


class Error(Struct, frozen=True):
    """OpenAI's error object; `param` names the field of the request that it is about."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(Struct, frozen=True):
    error: Error


@dataclass(frozen=True, slots=True)
class _Operation:
    """A method of one route. `errors` are statuses beside those that all can answer.
    `text`: the answer is no JSON."""

    id: str
    method: str
    path: str
    summary: str
    answer: type[Struct] | None
    request: type[Struct] | None = None
    errors: Sequence[int] = ()
    examples: Mapping[str, Any] = field(default_factory=dict)
    streams: bool = False
    text: bool = False
    alias: bool = True


_ERRORS = {
    400: "The request asks for what cannot be; `param` names the field.",
    401: "An API key is needed, and there is none in the request, or a wrong one.",
    403: "The Host header has a name that this server does not answer to.",
    404: "The model that is named is not the one this server has.",
    413: "The body is too large.",
    415: "The body is not said to be JSON in UTF-8.",
    429: "All places to run and to wait are taken.",
    500: "The model cannot be used, or the server made an error.",
    503: "The model is being loaded or restarted, or the engine stopped during this request.",
    504: "The deadline of a request (LLM_TIMEOUT) passed before its first token.",
}
_RETRY_AFTER = (429, 503)
_WORK = (400, 404, 413, 415, 429, 503, 504)

_HELLO = [{"role": "user", "content": "Name a river."}]
_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Madrid", "Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}
_WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather in a city.", "parameters": _CITY},
}

_OPERATIONS = (
    _Operation(
        "health",
        "get",
        "/health",
        "State of the server and its model; 503 whenever it is not ready",
        Health,
        alias=False,
    ),
    _Operation(
        "live",
        "get",
        "/livez",
        "200 while the server process lives, whatever its engine does",
        Live,
        alias=False,
    ),
    _Operation(
        "metrics",
        "get",
        "/metrics",
        "Counters, times and the engine's state, in Prometheus' text format",
        None,
        text=True,
        alias=False,
    ),
    _Operation("listModels", "get", "/v1/models", "The one model", ModelList),
    _Operation("getModel", "get", "/v1/models/{id}", "A model by its id", Model, errors=(404,)),
    _Operation(
        "createChatCompletion",
        "post",
        "/v1/chat/completions",
        "An answer in OpenAI's format, whole or as a stream of events",
        openai.ChatCompletion,
        openai.ChatRequest,
        _WORK,
        {
            "whole": {"messages": _HELLO, "max_tokens": 8},
            "stream": {
                "messages": _HELLO,
                "max_tokens": 8,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            "tools": {"messages": _HELLO, "tools": [_WEATHER], "tool_choice": "required"},
            "structured": {
                "messages": _HELLO,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "city", "schema": _CITY, "strict": True},
                },
            },
            "logprobs": {"messages": _HELLO, "max_tokens": 2, "logprobs": True, "top_logprobs": 3},
            "prediction": {
                "messages": _HELLO,
                "max_tokens": 8,
                "prediction": {"type": "content", "content": "The Ebro."},
            },
        },
        streams=True,
    ),
    _Operation(
        "chat",
        "post",
        "/chat",
        "An answer for scripts: a message with its history in, text out",
        simple.SimpleChatResponse,
        simple.SimpleChatRequest,
        _WORK,
        {
            "message": {"message": "Name a river.", "system": "Be brief.", "max_tokens": 8},
            "history": {
                "message": "And another?",
                "history": [*_HELLO, {"role": "assistant", "content": "The Ebro."}],
                "max_tokens": 8,
            },
            "messages": {"messages": _HELLO, "max_tokens": 8},
        },
        alias=False,
    ),
    _Operation(
        "tokenize",
        "post",
        "/v1/tokenize",
        "The tokens of a text, or of the prompt that messages become",
        tokens.TokenizeResponse,
        tokens.TokenizeRequest,
        _WORK,
        {"text": {"text": "Name a river."}, "messages": {"messages": _HELLO}},
    ),
    _Operation(
        "detokenize",
        "post",
        "/v1/detokenize",
        "The text of tokens",
        tokens.DetokenizeResponse,
        tokens.DetokenizeRequest,
        _WORK,
        {"tokens": {"tokens": [1, 2, 3]}},
    ),
    _Operation(
        "openapi", "get", "/openapi.json", "This document, in OpenAPI 3.1", None, alias=False
    ),
)


def document() -> dict[str, Any]:
    """The whole document, ready to be JSON. Routes under /v1 are there without it too."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, operation.id)
        if operation.alias:
            path = operation.path.removeprefix("/v1")
            paths.setdefault(path, {})[operation.method] = _operation(
                operation, f"{operation.id}Alias"
            )
    return {
        "openapi": VERSION,
        "info": {
            "title": "SHEILY local LLM server",
            "version": package_version(),
            "description": "OpenAI's chat API for one local model. docs/openai.md says what "
            "happens with each field.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _request_schemas() | _answer_schemas(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed where the server was started with keys.",
                }
            },
        },
    }


def _operation(operation: _Operation, id: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": id,
        "summary": operation.summary,
        "responses": _responses(operation),
        # Without a key too, as the server may have none.
        "security": [] if _is_open(operation) else [{"key": []}, {}],
    }
    if "{id}" in operation.path:
        schema = {"type": "string", "minLength": 1}
        made["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": schema}]
    if operation.request is not None:
        examples = {name: {"value": value} for name, value in operation.examples.items()}
        content = {"schema": _reference(operation.request), "examples": examples}
        made["requestBody"] = {"required": True, "content": {JSON: content}}
    return made


def _is_open(operation: _Operation) -> bool:
    return operation.path in OPEN_PATHS


def _responses(operation: _Operation) -> dict[str, Any]:
    schema = _reference(operation.answer) if operation.answer else {"type": "object"}
    content: dict[str, Any] = {JSON: {"schema": schema}}
    if operation.text:
        content = {TEXT: {"schema": {"type": "string"}}}
    if operation.streams:
        content[EVENTS] = {"schema": _event()}
    responses = {"200": _response("As asked.", content)}
    common = {403, 500} if _is_open(operation) else {401, 403, 500}
    for status in sorted({*operation.errors} | common):
        error = {JSON: {"schema": _reference(ErrorResponse)}}
        responses[str(status)] = _response(_ERRORS[status], error, status in _RETRY_AFTER)
    if operation.answer is Health:
        responses["503"] = _response("Not ready; `state` and `reason` say why.", content)
    return responses


def _event() -> dict[str, Any]:
    """One event: before OpenAPI 3.2 the schema of an event stream is by custom that of its events.
    `data` is text that is itself JSON, hence contentSchema."""
    values = [_reference(openai.ChatCompletionChunk), _reference(ErrorResponse)]
    return {
        "type": "object",
        "description": "One event of the stream that `stream` asks for. The last one is [DONE]; "
        "after an error in the middle there is none. Lines that begin with a colon keep the "
        "connection alive.",
        "properties": {
            "data": {
                "type": "string",
                "anyOf": [
                    {"const": "[DONE]"},
                    {"contentMediaType": JSON, "contentSchema": {"anyOf": values}},
                ],
            }
        },
        "required": ["data"],
    }


def _response(
    description: str, content: dict[str, Any], retry_after: bool = False
) -> dict[str, Any]:
    headers: dict[str, Any] = {
        "X-Request-Id": {"schema": {"type": "string"}, "description": "As in the server's log."}
    }
    if retry_after:
        headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds."}
    return {"description": description, "headers": headers, "content": content}


def _request_schemas() -> dict[str, Any]:
    """What the routes accept."""
    requests = [operation.request for operation in _OPERATIONS if operation.request is not None]
    schemas = _schemas(requests)
    for request in requests:
        properties = schemas[request.__name__]["properties"]
        for name, values in openai.NEUTRAL.items():
            if name not in properties:
                properties[name] = {
                    "enum": [None, *values],
                    "description": "Has no effect on this route; other values are refused.",
                }
    return schemas


def _answer_schemas() -> dict[str, Any]:
    """Fields of answers with a default are there all the same, unless they may be left out."""
    roots = [operation.answer for operation in _OPERATIONS if operation.answer is not None]
    roots += [openai.ChatCompletionChunk, ErrorResponse]
    schemas = _schemas(roots)
    for struct in {**vars(openai), **vars(simple), **vars(tokens), **globals()}.values():
        if isinstance(struct, type) and issubclass(struct, Struct) and struct.__name__ in schemas:
            schemas[struct.__name__]["required"] = _always_sent(struct)
    return schemas


def _schemas(structs: Sequence[type[Struct]]) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(structs, ref_template=_COMPONENT)
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return dict(schemas)


def _always_sent(struct: type[Struct]) -> list[str]:
    may_be_left_out = struct.__struct_config__.omit_defaults
    return [
        each.encode_name
        for each in msgspec.structs.fields(struct)
        if each.required or not (may_be_left_out or UnsetType in getattr(each.type, "__args__", ()))
    ]


def _reference(struct: type[Struct]) -> dict[str, str]:
    return {"$ref": _COMPONENT.format(name=struct.__name__)}
