"""Responses that are made whether anybody waits or not, and the streams of those who read along,
come back, or come later."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from ...chat.turn import Caller, ClientGoneError, TimeLimit
from ...errors import InvalidRequestError, ServiceError, StoreError
from ...store.base import Record
from ..jobs import EventLog
from ..route import Service
from . import answer, encode
from .work import Work, named

log = logging.getLogger(__name__)

NOT_AGAIN = "Only a response that was made with background: true can be streamed again."
WAIT_S = 0.2
"""Seconds that a reader waits for an event before it looks whether it is still wanted."""


def start(service: Service, work: Work, asker: Caller) -> bytes:
    """Begins a response in the background for who asks. Returns it as it is then, as JSON. Raises
    QueueFullError."""
    job = work.job
    caller = Caller(
        lambda: job.cancelled,
        time.monotonic(),
        asker.scope,
        asker.client,
        TimeLimit(service.config.background_timeout, "LLM_BACKGROUND_TIMEOUT"),
    )
    for each in work.writer.created():
        _add(job.log, each)
    work.keeper.begin(work.writer.response("queued"))
    queued = job.body
    try:
        service.jobs.start(job, lambda: _make(service, work, caller), asker.client)
    except ServiceError:
        if job.log is not None:
            job.log.release()
        with suppress(StoreError):  # it is logged, and what the caller gets is still true
            service.store.delete(job.id, job.owner)
        raise
    return queued


def _make(service: Service, work: Work, caller: Caller) -> None:
    writer, job = work.writer, work.job
    try:
        turn = service.chat.begin(work.generation, caller)
        writer.admitted(turn)
        job.body = msgspec.json.encode(writer.response("in_progress"))
        for each in writer.in_progress():
            _add(job.log, each)
        for piece in service.chat.pieces(turn, caller):
            for each in writer.take(piece) if piece is not None else ():
                _add(job.log, each)
        for each in writer.close():
            _add(job.log, each)
        response = writer.finished(turn)
    except ClientGoneError:
        response = writer.response("cancelled")
    except ServiceError as error:
        response = writer.failed(encode.error_of(work.place(error)), error.code)
    except Exception:
        log.exception("%s failed", job.id)
        problem = f"The server made an error; its log has it under {job.id}."
        response = writer.failed(answer.ResponseError("server_error", problem), "internal_error")
    last = msgspec.json.encode(writer.last(response))
    before, full = job.log.all() if job.log is not None else ([], True)
    told = work.keeper.end(response, before if full else [*before, last])
    if job.log is not None:
        job.log.end(last if told is response else msgspec.json.encode(writer.last(told)))
    used = told.usage
    log.info(
        "%s %s%s",
        job.id,
        told.status,
        "" if used is None else f" prompt={used.input_tokens} completion={used.output_tokens}",
    )


def _add(log: EventLog | None, found: answer.Event) -> None:
    """Adds an event. Ends the stream, though not the response, if it has become too long."""
    if log is not None and not log.add(msgspec.json.encode(found)):
        problem = answer.ResponseStreamError(
            sequence_number=len(log),
            message="The stream has more bytes than are kept. The response itself will be whole.",
            code="stream_too_long",
        )
        log.end(msgspec.json.encode(problem))


def follow(log: EventLog, after: int) -> Iterator[bytes | None]:
    """Yields the events of a running response behind number `after`, as they come; None when none
    came for a short while."""
    begin = after + 1
    while True:
        found, ended = log.after(begin, WAIT_S)
        for data in found:
            yield named(data)
        begin += len(found)
        if ended:
            return
        if not found:
            yield None


def replay(record: Record, after: int) -> Iterator[bytes | None]:
    """Yields the kept events of a response behind number `after`. One that ended with the server
    has none: that it has failed is its next event. Raises InvalidRequestError."""
    body = msgspec.json.decode(record.body)
    if not body.get("background"):
        raise InvalidRequestError(NOT_AGAIN, "stream")
    return _replayed(record, body, after)


def _replayed(record: Record, body: object, after: int) -> Iterator[bytes | None]:
    lines: Sequence[bytes] = record.events.split(b"\n") if record.events else ()
    for data in lines[after + 1 :]:
        yield named(data)
    if not lines and record.status == "failed":
        failed = {"type": "response.failed", "sequence_number": after + 1, "response": body}
        yield named(msgspec.json.encode(failed))
