"""A route is one operation of the API, for the router, the document and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from ..backend.health import Health
from ..backend.tickets import Ticket
from ..chat.chat import Chat
from ..chat.generation import Generation
from ..chat.reader import Piece, Progress
from ..chat.turn import Caller, Turn
from ..config import Config
from ..metrics import Metrics
from ..store.base import Store
from .dialect import Dialect
from .jobs import Jobs
from .openai_chat.dialect import OPENAI

JSON = "application/json"
PATIENCE_S = 10.0
"""Seconds that a stream waits for its status while the engine wakes. After that it is 200, and an
error is an event."""
ReadT = TypeVar("ReadT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What routes use. `created` is when the server started, in Unix seconds. `store` keeps
    responses, `jobs` are those that are being made."""

    config: Config
    chat: Chat
    metrics: Metrics
    health: Callable[[], Health]
    created: int
    store: Store
    jobs: Jobs

    def reads(self, read: Callable[[bytes, bool], ReadT]) -> Callable[[bytes], ReadT]:
        """Returns what reads a body, as strictly as the settings want it."""
        strict = self.config.strict == "on"
        return lambda data: read(data, strict)


class Asked(Protocol):
    """One request. `arguments` are the parts of its path that the route names, `query` the fields
    behind it; of several with one name, the first."""

    @property
    def caller(self) -> Caller: ...

    @property
    def arguments(self) -> Mapping[str, str]: ...

    @property
    def query(self) -> Mapping[str, str]: ...

    def read(self, decode: Callable[[bytes], ReadT]) -> ReadT:
        """Returns the decoded body, once there is room for the request. Raises ServiceError."""
        ...

    def header(self, name: str) -> str:
        """Returns a header of the request; empty without it."""
        ...

    def hold(self, n_bytes: int) -> None:
        """Takes room until the end of the request for bytes that are in memory because of it, and
        not in its body. Raises QueueFullError."""
        ...


class Events(Protocol):
    """Writes an answer as whole server-sent events."""

    def first(self) -> Iterator[bytes]:
        """Returns the events that need no token."""
        ...

    def of(self, piece: Piece | Progress) -> Iterator[bytes]: ...

    def last(self) -> Iterator[bytes]:
        """Returns the events at the end of a finished turn."""
        ...

    def error(self, problem: bytes) -> bytes:
        """Writes an error in the middle, with the JSON `problem` as the dialect writes it. Nothing
        follows it."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole response. `turn` is set if it is an answer of the model. `headers` are others than
    those of every response."""

    body: bytes
    _: KW_ONLY
    status: int = 200
    content_type: str = JSON
    turn: Turn | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """A response that is sent as the model writes it. `close` is called in any case, once the
    stream has ended or its reader is gone."""

    turn: Turn
    events: Events
    _: KW_ONLY
    close: Callable[[], None] = lambda: None

    def error(self, problem: bytes) -> bytes:
        """Writes an error as the last event."""
        return self.events.error(problem)


@dataclass(slots=True)
class Waking:
    """A stream that begins once the engine is awake. Its `ticket` holds the request's place until
    then; `begin` has errors free it. `early_error` writes an error as the only event."""

    ticket: Ticket
    begin: Callable[[], Stream]
    early_error: Callable[[bytes], bytes]
    begun: Stream | None = None

    @property
    def turn(self) -> Turn | None:
        return None if self.begun is None else self.begun.turn

    def error(self, problem: bytes) -> bytes:
        return (self.early_error if self.begun is None else self.begun.error)(problem)

    def close(self) -> None:
        self.ticket.cancel()
        if self.begun is not None:
            self.begun.close()


@dataclass(frozen=True, slots=True)
class Follow:
    """A stream of what another thread makes: whole server-sent events, and None whenever there was
    none for a short while. `close` is called in any case, once the stream has ended or its reader
    is gone. `headers` are others than those of every stream."""

    events: Iterator[bytes | None]
    _: KW_ONLY
    close: Callable[[], None] = lambda: None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def turn(self) -> None:
        return None

    def error(self, problem: bytes) -> bytes:
        return event(problem)


Reply = Whole | Stream | Waking | Follow


def event(data: bytes, name: str | None = None) -> bytes:
    """Returns a server-sent event with this data, which has no line break, and this name."""
    named = b"" if name is None else b"event: " + name.encode() + b"\n"
    return named + b"data: " + data + b"\n\n"


def whole(answer: Struct, turn: Turn | None = None) -> Whole:
    """Encodes a struct as the response."""
    return Whole(msgspec.json.encode(answer), turn=turn)


def collect(service: Service, turn: Turn, caller: Caller) -> list[Piece]:
    """Returns all pieces of a turn's answers. Raises ServiceError and ClientGoneError."""
    return [piece for piece in service.chat.pieces(turn, caller) if isinstance(piece, Piece)]


def streamed(
    service: Service,
    asked: Asked,
    wanted: Generation,
    begin: Callable[[Ticket], Stream],
    early_error: Callable[[bytes], bytes] = event,
) -> Stream | Waking:
    """Returns what `begin` makes of a request's ticket. Where the engine takes long to wake, it is
    called later, and the client is kept alive until then. Raises ServiceError."""
    ticket = service.chat.enter(wanted, asked.caller)
    try:
        if service.chat.is_awake(ticket, asked.caller, PATIENCE_S):
            return begin(ticket)
    except BaseException:
        ticket.cancel()
        raise
    return Waking(ticket, lambda: begin(ticket), early_error)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """One operation of the API.

    `path` is as in the document, with `{id}` for an argument; a path under /v1 works without it
    too. `events` are the structs in a stream of its answer. `also` describes statuses besides 200
    with which it sends its answer. `errors` are statuses besides those that every route can answer
    with; the `dialect` says how they are written. `query` is the struct of the fields behind the
    path. `reads` are headers that it knows, and what they do. `text`: the answer is not JSON.
    `kinds` are other content types than JSON that it has, instead of JSON where there is no
    `answer`. `open`: no key is needed. `page`: it is part of the page that LLM_PAGE=off leaves out.
    `waits`: its handler may wait, for the disk or for events: it counts with the POST requests, of
    which only so many are handled at a time.
    """

    id: str
    method: str
    path: str
    summary: str
    handle: Callable[[Service, Asked], Reply]
    answer: type[Struct] | None = None
    request: type[Struct] | None = None
    events: tuple[type[Struct], ...] = ()
    also: Mapping[int, str] = field(default_factory=dict)
    errors: Sequence[int] = ()
    dialect: Dialect = OPENAI
    examples: Mapping[str, Any] = field(default_factory=dict)
    query: type[Struct] | None = None
    reads: Mapping[str, str] = field(default_factory=dict)
    text: bool = False
    kinds: tuple[str, ...] = ()
    open: bool = False
    page: bool = False
    waits: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """The path with and without /v1, as clients expect different bases."""
        bare = self.path.removeprefix("/v1")
        return (self.path,) if bare == self.path else (self.path, bare)


WORK = (400, 404, 413, 415, 429, 503, 504)
"""Error statuses of routes that use the engine."""
