"""Maps errors to HTTP: statuses, headers, and outcomes in the metrics. A dialect writes them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ..api.dialect import Dialect, Problem
from ..errors import (
    EngineCrashedError,
    EngineFailedError,
    InvalidRequestError,
    ModelUnavailableError,
    NotReadyError,
    QueueFullError,
    ServiceError,
    StoreError,
    TimedOutError,
    UnknownItemError,
    UnknownModelError,
    UnknownResponseError,
)
from ..metrics import Outcome


class Kind(NamedTuple):
    """An error's HTTP status and outcome in the metrics."""

    status: int
    outcome: Outcome


KINDS: dict[type[ServiceError], Kind] = {
    InvalidRequestError: Kind(400, "invalid"),
    UnknownModelError: Kind(404, "invalid"),
    UnknownResponseError: Kind(404, "invalid"),
    UnknownItemError: Kind(404, "invalid"),
    QueueFullError: Kind(429, "queue_full"),
    ModelUnavailableError: Kind(500, "unavailable"),
    NotReadyError: Kind(503, "unavailable"),
    EngineCrashedError: Kind(503, "engine_crashed"),
    TimedOutError: Kind(504, "timeout"),
    EngineFailedError: Kind(500, "error"),
    StoreError: Kind(500, "error"),
}


class HttpError(ServiceError):
    """An error of HTTP itself (connection, head, route or body), with its status."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message, code=code)
        self.status = status


def kind(error: ServiceError) -> Kind:
    """Returns an error's Kind: from an HttpError's status, else from the nearest class in KINDS."""
    if isinstance(error, HttpError):
        if error.status >= 500 and error.status != 501:
            return Kind(error.status, "error")
        outcome: Outcome = "unauthorized" if error.status in (401, 403) else "invalid"
        return Kind(error.status, outcome)
    return next(KINDS[each] for each in type(error).__mro__ if each in KINDS)


def body(error: ServiceError, dialect: Dialect, request_id: str | None = None) -> bytes:
    """Encodes an error as a dialect writes it, in JSON."""
    problem = Problem(
        status=kind(error).status,
        message=error.message,
        param=error.param,
        code=error.code,
        request_id=request_id,
    )
    return msgspec.json.encode(dialect.write(problem))


def headers(error: ServiceError) -> dict[str, str]:
    """Returns the headers of an error response. `X-Should-Retry` stops the official clients, which
    retry every 429 and 5xx twice."""
    found = {}
    if error.retry_after is not None:
        found["Retry-After"] = str(error.retry_after)
    if not error.retry:
        found["X-Should-Retry"] = "false"
    if kind(error).status == 401:
        found["WWW-Authenticate"] = "Bearer"
    return found
