"""Generates the OpenAPI document: the routes, their requests and their possible responses. Uses the
table of routes, and the structs of requests and answers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
from msgspec import Struct, UnsetType

from ..version import package_version
from .route import JSON, Route

VERSION = "3.1.0"
EVENTS = "text/event-stream"
TEXT = "text/plain"
_COMPONENT = "#/components/schemas/{name}"


_ERRORS = {
    400: "The request is invalid; `param` names the field.",
    401: "The API key is missing or wrong.",
    403: "The Host header names a host that this server does not answer to.",
    404: "The request names a model that this server does not have.",
    413: "The body is too large.",
    415: "The headers do not declare the body as JSON in UTF-8.",
    429: "All slots and all places in the queue are taken.",
    500: "The model cannot be used, or the server made an error.",
    503: "The model is being loaded or restarted, or the engine stopped during this request.",
    504: "The deadline of a request (LLM_TIMEOUT) passed before its first token.",
}
_RETRY_AFTER = (429, 503)


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Returns the whole document, ready to become JSON. Routes under /v1 appear without it too."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for path, suffix in zip(route.paths, ("", "Alias"), strict=False):
            made = _operation(route, route.id + suffix)
            paths.setdefault(path, {})[route.method.lower()] = made
    return {
        "openapi": VERSION,
        "info": {
            "title": "SHEILY local LLM server",
            "version": package_version(),
            "description": "OpenAI's and Anthropic's APIs for one local model. docs/api has a page "
            "for each of them, which says what happens with each field.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _request_schemas(routes) | _answer_schemas(routes),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Required when the server was started with API keys.",
                },
                "x-api-key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "The same key, as Anthropic's clients send it. Where it is "
                    "there, Authorization has no effect.",
                },
            },
        },
    }


def _operation(route: Route, id: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": id,
        "summary": route.summary,
        "responses": _responses(route),
        # Also without a key, as the server may have none.
        "security": [] if route.open else [{"key": []}, {"x-api-key": []}, {}],
    }
    parameters = _parameters(route)
    if parameters:
        made["parameters"] = parameters
    if route.request is not None:
        examples = {name: {"value": value} for name, value in route.examples.items()}
        content = {"schema": _reference(route.request), "examples": examples}
        made["requestBody"] = {"required": True, "content": {JSON: content}}
    return made


def _parameters(route: Route) -> list[dict[str, Any]]:
    """Returns the parts of the path that the route names, the fields behind it, and headers."""
    found: list[dict[str, Any]] = []
    if "{id}" in route.path:
        schema: dict[str, Any] = {"type": "string", "minLength": 1}
        found.append({"name": "id", "in": "path", "required": True, "schema": schema})
    if route.query is not None:
        for name, schema in _schemas([route.query])[route.query.__name__]["properties"].items():
            found.append({"name": name, "in": "query", "required": False, "schema": schema})
    for name, does in route.reads.items():
        header = {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
        found.append({**header, "description": does})
    return found


def _responses(route: Route) -> dict[str, Any]:
    schema = _reference(route.answer) if route.answer else {"type": "object"}
    content: dict[str, Any] = {JSON: {"schema": schema}}
    if route.kinds:
        json = content if route.answer else {}
        content = json | {kind: {"schema": {"type": "string"}} for kind in route.kinds}
    if route.text:
        content = {TEXT: {"schema": {"type": "string"}}}
    if route.events:
        content[EVENTS] = {"schema": _event(route)}
    responses = {"200": _response("As asked.", content)}
    common = {403, 500} if route.open else {401, 403, 500}
    for status in sorted({*route.errors} | common):
        error = {JSON: {"schema": _reference(route.dialect.error)}}
        responses[str(status)] = _response(_ERRORS[status], error, status in _RETRY_AFTER)
    for status, words in route.also.items():
        responses[str(status)] = _response(words, content)
    if route.dialect.id_header is not None:
        for response in responses.values():
            headers = response["headers"]
            headers[route.dialect.id_header] = headers["X-Request-Id"]
    return responses


def _event(route: Route) -> dict[str, Any]:
    """Returns the schema of one event. Before OpenAPI 3.2, the schema of an event stream is by
    convention that of its events. `data` is text that is itself JSON, hence contentSchema."""
    structs: list[type[Struct]] = [*route.events, route.dialect.error]
    values = [_reference(struct) for struct in structs]
    data: list[dict[str, Any]] = [
        {"contentMediaType": JSON, "contentSchema": {"anyOf": values}},
    ]
    properties: dict[str, Any] = {"data": {"type": "string", "anyOf": data}}
    last, ending = route.dialect.last_data, "Its name is the `type` in its data."
    if last is None:
        properties = {"event": {"type": "string"}} | properties
    else:
        data.insert(0, {"const": last})
        ending = f"The last one is {last}."
    return {
        "type": "object",
        "description": f"One event of the stream that `stream` asks for. {ending} After an error "
        "in the middle nothing follows. Lines that begin with a colon keep the connection alive.",
        "properties": properties,
        "required": list(properties),
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


def _request_schemas(routes: Sequence[Route]) -> dict[str, Any]:
    """Returns the schemas of what the routes accept."""
    requests = {route.request: route.dialect for route in routes if route.request is not None}
    schemas = _schemas(list(requests))
    for request, dialect in requests.items():
        properties = schemas[request.__name__]["properties"]
        for name, values in dialect.neutral.items():
            if name not in properties:
                properties[name] = {
                    "enum": [None, *values],
                    "description": "Has no effect on this route; other values are refused.",
                }
        for name in dialect.effectless:
            properties[name] = {
                "description": "Accepted without effect; `sheily.ignored` names it."
            }
    return schemas


def _answer_schemas(routes: Sequence[Route]) -> dict[str, Any]:
    """Returns the schemas of answers. Fields with a default are always sent, and so required,
    unless they may be left out."""
    roots = [route.answer for route in routes if route.answer is not None]
    roots += [each for route in routes for each in (*route.events, route.dialect.error)]
    schemas = _schemas(roots)
    for struct in _structs_of(roots):
        schemas[struct.__name__]["required"] = _always_sent(struct)
    return schemas


def _structs_of(roots: Sequence[type[Struct]]) -> set[type[Struct]]:
    """Returns these structs and all in their fields, at any depth."""
    found: set[type[Struct]] = set()
    todo: list[Any] = [*roots]
    while todo:
        each = todo.pop()
        if isinstance(each, type) and issubclass(each, Struct):
            if each not in found:
                found.add(each)
                todo += [field.type for field in msgspec.structs.fields(each)]
        else:
            todo += get_args(each)
    return found


def _schemas(structs: Sequence[type[Struct]]) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(structs, ref_template=_COMPONENT)
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return dict(schemas)


def _always_sent(struct: type[Struct]) -> list[str]:
    config = struct.__struct_config__
    may_be_left_out = config.omit_defaults
    tag = [] if config.tag_field is None else [config.tag_field]
    return tag + [
        each.encode_name
        for each in msgspec.structs.fields(struct)
        if each.required or not (may_be_left_out or UnsetType in getattr(each.type, "__args__", ()))
    ]


def _reference(struct: type[Struct]) -> dict[str, str]:
    return {"$ref": _COMPONENT.format(name=struct.__name__)}
