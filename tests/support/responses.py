"""What tests ask of /v1/responses, checked against the types of OpenAI's own package."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.support.serving import Answer, Endpoint

PATH = "/v1/responses"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LAST = ("response.completed", "response.incomplete", "response.failed")


def post(server: Endpoint, input: Any = None, **fields: Any) -> Answer:
    headers = fields.pop("headers", None)
    body = fields if input is None else {"input": input, **fields}
    return server.ask("POST", PATH, body, headers)


def respond(server: Endpoint, input: Any, **fields: Any) -> dict[str, Any]:
    """A whole response, which the package takes as one."""
    return checked(post(server, input, **fields))


def checked(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.json()
    Response.model_validate(body)
    return body


def text_of(body: dict[str, Any]) -> str:
    return Response.model_validate(body).output_text


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The whole events of a stream, or of its beginning; the package takes each as one of its own.
    Their names are their types."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        name, line = block.split("\n")
        event = json.loads(line.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        found.append(event)
    return found


def stream(server: Endpoint, input: Any, **fields: Any) -> list[dict[str, Any]]:
    """The events of a stream, numbered from 0."""
    answer = post(server, input, stream=True, **fields)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(answer.body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] in LAST for event in events] == [False] * (len(events) - 1) + [True]
    return events


def joined(events: list[dict[str, Any]]) -> str:
    return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
