"""One request for a response, from its body to what the engine is asked; and how its answer is
written and kept, whoever waits for it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ...chat.generation import Generation
from ...chat.reader import Piece, Progress
from ...chat.turn import Turn
from ...errors import InvalidRequestError, ServiceError
from ...templates.base import Message
from ..body import Read, of_message
from ..jobs import EventLog, Job
from ..route import Service, event
from . import answer, decode, encode, items, kept
from . import protocol as wire

COPIES = 2
"""How often a response in the background holds its conversation, as messages and packed, and what
its request asked for, which may be as large: as objects and in its JSON."""


@dataclass(slots=True, kw_only=True)
class Work:
    """A response that is to be made. `places` are where the request has the messages of the
    `generation`."""

    generation: Generation
    writer: encode.Writer
    keeper: kept.Keeper
    places: Sequence[str]

    @property
    def job(self) -> Job:
        return self.keeper.job

    def place(self, error: ServiceError) -> ServiceError:
        """Has an error about a message name its place in the request. Returns it."""
        error.param = "input" if error.param == "messages" else of_message(error.param, self.places)
        return error


def begin(
    service: Service,
    found: Read[wire.ResponseRequest],
    scope: str,
    hold: kept.Hold,
    key: str | None = None,
) -> Work:
    """Prepares the response that a body asks for. `scope` is its caller's; `key` is what is unique
    in its id, drawn if there is none. Raises ServiceError."""
    request = found.request
    owner = service.store.owner(scope)
    past = kept.conversation(service.store, owner, request.previous_response_id, hold)
    given = kept.resolved(service.store, owner, items.items_of(request), hold)
    new = items.messages_of(given)
    talk = [*past, *(each.message for each in new)]
    n_bytes = items.check_size(talk)
    system = [Message("system", request.instructions)] if request.instructions else []
    if not system and not talk:  # reasoning alone
        raise InvalidRequestError("The input has no message.", "input")
    key = key or secrets.token_hex(16)
    wanted = decode.generation(
        found, [*system, *talk], service.config.max_history, encode.id_of(key)
    )
    blank = encode.blank(
        request,
        key=key,
        model=service.chat.model,
        sampling=service.chat.sampling_values(wanted.sampling),
    )
    listed = msgspec.json.encode(items.listed(given, key))
    body = msgspec.json.encode(blank)
    log = EventLog(service.jobs.budget) if request.background else None
    return Work(
        generation=wanted,
        writer=encode.Writer(blank, logprobs=request.wanted_logprobs() is not None),
        keeper=kept.Keeper(
            store=service.store,
            job=Job(
                blank.id,
                owner,
                body,
                listed,
                log,
                COPIES * (n_bytes + len(listed) + len(body)) if request.background else 0,
            ),
            messages=talk,
            wanted=request.stores,
            continues=wanted.continues,
        ),
        places=[
            *("instructions" for _ in system),
            *("previous_response_id" for _ in past),
            *(each.place for each in new),
        ],
    )


class Live:
    """Writes a response for the one reader who waits for it, and keeps it. Implements
    `api.route.Events`."""

    def __init__(self, work: Work, turn: Turn) -> None:
        self._writer = work.writer
        self._keeper = work.keeper
        self._turn = turn
        self._ended = False
        work.writer.admitted(turn)
        self._keeper.begin(work.writer.response("in_progress"))

    def first(self) -> Iterator[bytes]:
        yield from map(_sse, self._writer.created())
        yield from map(_sse, self._writer.in_progress())

    def of(self, piece: Piece | Progress) -> Iterator[bytes]:
        yield from map(_sse, self._writer.take(piece))

    def last(self) -> Iterator[bytes]:
        yield from map(_sse, self._writer.close())
        yield _sse(self._writer.last(self.end()))

    def error(self, problem: bytes) -> bytes:
        """Writes that the response has failed, with the message of `problem`."""
        found = msgspec.json.decode(problem)["error"]
        code = "rate_limit_exceeded" if found["type"] == "rate_limit_error" else "server_error"
        if found["type"] == "invalid_request_error":
            code = "invalid_prompt"
        error = answer.ResponseError(code, found["message"])
        return _sse(self._writer.last(self.fail(error, found.get("code"))))

    def whole(self, pieces: Sequence[Piece]) -> answer.Response:
        """Returns the response of a finished turn."""
        for piece in pieces:
            for _ in self._writer.take(piece):
                pass
        for _ in self._writer.close():
            pass
        return self.end()

    def end(self) -> answer.Response:
        """Keeps the finished response, and returns it."""
        self._ended = True
        return self._keeper.end(self._writer.finished(self._turn))

    def fail(self, error: answer.ResponseError, code: str | None) -> answer.Response:
        self._ended = True
        return self._keeper.end(self._writer.failed(error, code))

    def close(self) -> None:
        """Keeps the response as cancelled, unless it has ended."""
        if not self._ended:
            self._ended = True
            self._keeper.end(self._writer.response("cancelled"))


def error(problem: bytes) -> bytes:
    """Writes an error in a stream whose response was not begun."""
    found = msgspec.json.decode(problem)["error"]
    message, code, param = (found[name] for name in ("message", "code", "param"))
    return _sse(
        answer.ResponseStreamError(sequence_number=0, message=message, code=code, param=param)
    )


def _sse(found: answer.Event) -> bytes:
    """Writes an event of ours as a server-sent one."""
    return named(msgspec.json.encode(found))


class _Kind(msgspec.Struct):
    type: str


_KIND = msgspec.json.Decoder(_Kind)


def named(data: bytes) -> bytes:
    """Writes the JSON of an event as a server-sent one, with its type as its name."""
    return event(data, _KIND.decode(data).type)
