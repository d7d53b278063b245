"""What the routes of one dialect have in common: how their errors are written, how a stream is kept
alive, which fields they do not act on. Knows no route and no HTTP library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from .body import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as a response: its HTTP status and what the core says. `request_id` is None for what
    never became a request."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dialect:
    """One dialect of the API.

    `write` makes the body of an error, which is an `error`. `neutral` and `effectless` are the
    tables of `body.Reader`, for the document. `keep_alive` is what a stream has while it has
    nothing to say, `last_data` what its last event says if that is the same for all. `id_header`
    names the request beside X-Request-Id.
    """

    error: type[Struct]
    write: Callable[[Problem], Struct]
    neutral: Values
    effectless: Values
    keep_alive: bytes = b": keep-alive\n\n"
    last_data: str | None = None
    id_header: str | None = None
