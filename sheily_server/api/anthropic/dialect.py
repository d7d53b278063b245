"""Anthropic's dialect: its error object, its types of errors, and how its streams stay alive."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ..dialect import Dialect, Problem
from ..route import event
from .neutral import EFFECTLESS, NEUTRAL

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Those of https://platform.claude.com/docs/en/api/errors, by status. Other statuses below 500 are
invalid_request_error, from there on api_error."""


class MessagesError(Struct, frozen=True):
    """Anthropic's error object. `param` and `code` are this server's: the field of the request that
    is at fault, and the error's name in docs/api/README.md."""

    type: str
    message: str
    param: str | None
    code: str | None


class MessagesErrorResponse(Struct, frozen=True, kw_only=True):
    """`request_id` is that of the header. It is null for what could not be read as HTTP."""

    type: Literal["error"] = "error"
    error: MessagesError
    request_id: str | None


def write(problem: Problem) -> MessagesErrorResponse:
    """Writes an error."""
    other = "api_error" if problem.status >= 500 else "invalid_request_error"
    return MessagesErrorResponse(
        error=MessagesError(
            _TYPES.get(problem.status, other), problem.message, problem.param, problem.code
        ),
        request_id=problem.request_id,
    )


ANTHROPIC = Dialect(
    error=MessagesErrorResponse,
    write=write,
    neutral=NEUTRAL,
    effectless=EFFECTLESS,
    keep_alive=event(b'{"type":"ping"}', "ping"),
    id_header="Request-Id",
)
