"""OpenAI's dialect: its error object, and how its streams end."""

from __future__ import annotations

from msgspec import Struct

from ..dialect import Dialect, Problem
from .neutral import EFFECTLESS, NEUTRAL


class Error(Struct, frozen=True):
    """OpenAI's error object. `param` names the field of the request that is at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(Struct, frozen=True):
    error: Error


def write(problem: Problem) -> ErrorResponse:
    """Writes an error."""
    return ErrorResponse(Error(problem.message, _type(problem.status), problem.param, problem.code))


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 and status != 501 else "invalid_request_error"


OPENAI = Dialect(
    error=ErrorResponse,
    write=write,
    neutral=NEUTRAL,
    effectless=EFFECTLESS,
    last_data="[DONE]",
)
