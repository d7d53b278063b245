"""Maps errors to HTTP: statuses, OpenAI's error types, and outcomes in the metrics."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

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
    """An error's HTTP status, `type` in OpenAI's error object, and outcome in the metrics."""

    status: int
    type: str
    outcome: Outcome


KINDS: dict[type[ServiceError], Kind] = {
    InvalidRequestError: Kind(400, "invalid_request_error", "invalid"),
    UnknownModelError: Kind(404, "invalid_request_error", "invalid"),
    UnknownResponseError: Kind(404, "invalid_request_error", "invalid"),
    UnknownItemError: Kind(404, "invalid_request_error", "invalid"),
    QueueFullError: Kind(429, "rate_limit_error", "queue_full"),
    ModelUnavailableError: Kind(500, "server_error", "unavailable"),
    NotReadyError: Kind(503, "server_error", "unavailable"),
    EngineCrashedError: Kind(503, "server_error", "engine_crashed"),
    TimedOutError: Kind(504, "server_error", "timeout"),
    EngineFailedError: Kind(500, "server_error", "error"),
    StoreError: Kind(500, "server_error", "error"),
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
            return Kind(error.status, "server_error", "error")
        outcome: Outcome = "unauthorized" if error.status in (401, 403) else "invalid"
        return Kind(error.status, "invalid_request_error", outcome)
    return next(KINDS[each] for each in type(error).__mro__ if each in KINDS)


def body(error: ServiceError) -> bytes:
    """Encodes an error as OpenAI's error object, in JSON."""
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": kind(error).type,
                "param": error.param,
                "code": error.code,
            }
        }
    )


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
