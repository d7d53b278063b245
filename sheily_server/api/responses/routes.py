"""POST /v1/responses, and what can be done with a response by its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from ...backend.tickets import Ticket
from ...chat.turn import Turn
from ...errors import InvalidRequestError, ServiceError, UnknownResponseError
from ...store.base import Record
from ..body import QueryReader, Read
from ..openai_chat.routes import CITY
from ..route import (
    WORK,
    Asked,
    Follow,
    Reply,
    Route,
    Service,
    Stream,
    Whole,
    collect,
    streamed,
    whole,
)
from . import answer, background, decode, encode, kept, once, work
from . import protocol as wire
from .dialect import RESPONSES

RETRIEVE = QueryReader(wire.RetrieveQuery)
LIST = QueryReader(wire.ItemsQuery)
CANCEL_S = 10.0
"""Seconds that a cancelled response has to end before it is returned as it is."""


def create(service: Service, asked: Asked) -> Reply:
    found, digest = asked.read(_with_digest(service.reads(decode.read)))
    request = found.request
    service.chat.check_model(request.model)
    if request.background:
        stream, owner = bool(request.stream), service.store.owner(asked.caller.scope)
        key = once.key_of(asked.header(once.HEADER), owner, digest)
        if key is None:
            return _in_background(service, asked, found, stream)
        with service.jobs.alone(key):
            if once.is_there(service, key, owner, asked.hold):
                return replace(
                    _again(service, asked, encode.id_of(key), stream), headers=once.REPLAYED
                )
            return _in_background(service, asked, found, stream, key)
    made = work.begin(service, found, asked.caller.scope, asked.hold)
    stream = bool(request.stream)
    del found, request  # a bias of a whole vocabulary is large, and the request may wait

    def begin(ticket: Ticket | None = None) -> tuple[Turn, work.Live, Callable[[], None]]:
        try:
            turn = service.chat.begin(made.generation, asked.caller, ticket)
        except ServiceError as error:
            made.place(error)
            raise
        live = work.Live(made, turn)
        if made.keeper.wanted:
            service.jobs.add(made.job)

        def close() -> None:
            live.close()
            service.jobs.forget(made.job)

        return turn, live, close

    def streams(ticket: Ticket) -> Stream:
        turn, live, close = begin(ticket)
        return Stream(turn, live, close=close)

    if stream:
        return streamed(service, asked, made.generation, streams, work.error)
    turn, live, close = begin()
    try:
        return whole(live.whole(collect(service, turn, asked.caller)), turn)
    except ServiceError as error:
        live.fail(encode.error_of(error), error.code)
        raise
    finally:
        close()


def _with_digest(
    read: Callable[[bytes], Read[wire.ResponseRequest]],
) -> Callable[[bytes], tuple[Read[wire.ResponseRequest], bytes]]:
    """Returns what reads a body, and gives what tells it from others."""
    return lambda data: (read(data), once.digest(data))


def _in_background(
    service: Service,
    asked: Asked,
    found: Read[wire.ResponseRequest],
    stream: bool,
    key: str | None = None,
) -> Reply:
    service.jobs.check_room(asked.caller.client)
    made = work.begin(service, found, asked.caller.scope, asked.hold, key)
    queued = background.start(service, made, asked.caller)
    if stream and made.job.log is not None:
        return Follow(background.follow(made.job.log, -1))
    return Whole(queued)


def retrieve(service: Service, asked: Asked) -> Reply:
    query = RETRIEVE.read(asked.query)
    if query.starting_after is not None and not query.stream:
        raise InvalidRequestError("starting_after needs stream to be true.", "starting_after")
    after = -1 if query.starting_after is None else query.starting_after
    return _again(service, asked, asked.arguments["id"], query.stream, after)


def _again(
    service: Service, asked: Asked, id: str, stream: bool, after: int = -1
) -> Whole | Follow:
    """Returns a response that was begun before: as it is, or its events behind number `after`."""
    owner = service.store.owner(asked.caller.scope)
    job = service.jobs.find(id, owner)
    if not stream:
        return Whole(_record(service, asked, id, owner).body if job is None else job.body)
    if job is None:
        events = background.replay(_record(service, asked, id, owner), after)
    elif job.log is None:
        raise InvalidRequestError(background.NOT_AGAIN, "stream")
    else:
        events = background.follow(job.log, after)
    service.jobs.begin_reading()
    return Follow(events, close=service.jobs.end_reading)


def _record(service: Service, asked: Asked, id: str, owner: str) -> Record:
    found = kept.read(service.store, owner, id, asked.hold)
    if found is None:
        raise UnknownResponseError(id)
    return found


def delete(service: Service, asked: Asked) -> Whole:
    id = asked.arguments["id"]
    kept.erase(service.store, service.jobs, id, service.store.owner(asked.caller.scope))
    service.chat.forget(id)
    return whole(answer.DeletedResponse(id))


def cancel(service: Service, asked: Asked) -> Whole:
    id, owner = asked.arguments["id"], service.store.owner(asked.caller.scope)
    job = service.jobs.find(id, owner)
    if job is None:
        record = _record(service, asked, id, owner)
        in_background = bool(msgspec.json.decode(record.body)["background"])
        body = record.body
    else:
        in_background = job.log is not None
        if in_background:
            job.cancel()
            job.ended.wait(CANCEL_S)
        body = job.body
    if not in_background:
        raise InvalidRequestError(
            "Only a response that was made with background: true can be cancelled; another one "
            "ends when its connection is closed.",
            "id",
        )
    return Whole(body)


def input_items(service: Service, asked: Asked) -> Whole:
    query = LIST.read(asked.query)
    id, owner = asked.arguments["id"], service.store.owner(asked.caller.scope)
    job = service.jobs.find(id, owner)
    listed = msgspec.json.decode(
        _record(service, asked, id, owner).items if job is None else job.items,
        type=list[dict[str, Any]],
    )
    if query.order == "desc":
        listed.reverse()
    begin = 0
    if query.after is not None:
        ids = [each["id"] for each in listed]
        if query.after not in ids:
            raise InvalidRequestError(f"There is no item {query.after[:100]!r}.", "after")
        begin = ids.index(query.after) + 1
    page = listed[begin : begin + query.limit]
    return whole(
        answer.InputItemList(
            data=page,
            first_id=page[0]["id"] if page else "",
            last_id=page[-1]["id"] if page else "",
            has_more=begin + query.limit < len(listed),
        )
    )


NAME = "Name a river."
WEATHER = {"type": "function", "name": "weather", "description": "Weather.", "parameters": CITY}

ROUTES = (
    Route(
        id="createResponse",
        method="POST",
        path="/v1/responses",
        dialect=RESPONSES,
        summary="A response in OpenAI's format, whole, as a stream of events, or in the background",
        handle=create,
        answer=answer.Response,
        request=wire.ResponseRequest,
        reads={once.HEADER: once.DOES},
        events=answer.EVENTS,
        errors=WORK,
        examples={
            "text": {"input": NAME, "max_output_tokens": 8},
            "items": {
                "instructions": "Be brief.",
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": NAME}]},
                    {"role": "assistant", "content": "The Ebro."},
                    {"role": "user", "content": "And another?"},
                ],
                "max_output_tokens": 8,
                "store": False,
            },
            "stream": {"input": NAME, "max_output_tokens": 8, "stream": True},
            "tools": {"input": NAME, "tools": [WEATHER], "tool_choice": "required"},
            "structured": {
                "input": NAME,
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "city",
                        "schema": CITY,
                        "strict": True,
                    }
                },
            },
            "background": {"input": NAME, "max_output_tokens": 8, "background": True},
        },
    ),
    Route(
        id="getResponse",
        method="GET",
        path="/v1/responses/{id}",
        dialect=RESPONSES,
        summary="A response that is kept or being made; its stream again, behind an event",
        handle=retrieve,
        waits=True,
        answer=answer.Response,
        query=wire.RetrieveQuery,
        events=answer.EVENTS,
        errors=(400, 404, 429),
    ),
    Route(
        id="deleteResponse",
        method="DELETE",
        path="/v1/responses/{id}",
        dialect=RESPONSES,
        summary="Erases a response, and ends it first if it is made in the background",
        handle=delete,
        waits=True,
        answer=answer.DeletedResponse,
        errors=(404, 429),
    ),
    Route(
        id="cancelResponse",
        method="POST",
        path="/v1/responses/{id}/cancel",
        dialect=RESPONSES,
        summary="Ends a response that is made in the background",
        handle=cancel,
        answer=answer.Response,
        errors=(400, 404, 429),
    ),
    Route(
        id="listInputItems",
        method="GET",
        path="/v1/responses/{id}/input_items",
        dialect=RESPONSES,
        summary="The input items of a response, a page at a time",
        handle=input_items,
        waits=True,
        answer=answer.InputItemList,
        query=wire.ItemsQuery,
        errors=(400, 404, 429),
    ),
)
