"""The server's answers as the client returns them: replies, and errors with OpenAI's fields."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from .errors import BadRequestError, LLMAPIError, LLMProtocolError, RateLimitedError, ServerError


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    `text` is empty if the answer is a tool call, and of several answers it is the first one's.
    `usage` has the token counts, and `raw` is the response's whole JSON.
    """

    text: str
    _: KW_ONLY
    finish_reason: str | None
    usage: dict[str, Any]
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PipelineReply(Reply):
    """An answer from documents. `used` are the places of those in the prompt, `left_out` those of
    documents that had text but did not fit."""

    used: tuple[int, ...]
    left_out: tuple[int, ...]


def parse_object(data: bytes | str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LLMProtocolError(f"{what} is not JSON: {_beginning(data)!r}") from error
    if not isinstance(value, dict):
        raise LLMProtocolError(f"{what} is not a JSON object: {_beginning(data)!r}")
    return value


def _beginning(data: bytes | str) -> str:
    first = data[:200]
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else first


def raise_for_status(answer: http.client.HTTPResponse, body: bytes) -> None:
    status = answer.status
    if status == 200:
        return
    if status < 400:
        raise LLMProtocolError(f"HTTP {status} instead of an answer: {answer.reason}")
    try:
        error = parse_object(body, "the error").get("error")
    except LLMProtocolError:
        error = " ".join(body.decode("utf-8", "replace").split())[:500] or answer.reason
    raise api_error(
        status,
        error,
        request_id=answer.getheader("x-request-id"),
        retry_after=_seconds(answer.getheader("Retry-After")),
    )


def api_error(status: int, error: object, **headers: Any) -> LLMAPIError:
    """Makes the exception of an error object, whose status is 200 inside a stream."""
    fields = error if isinstance(error, dict) else {"message": error}
    message = fields.get("message")
    kind = LLMAPIError
    if status in (400, 429):
        kind = BadRequestError if status == 400 else RateLimitedError
    elif status >= 500 or status == 200:
        kind = ServerError
    return kind(
        status,
        message if isinstance(message, str) else f"an error without a message: {error!r}",
        type=_text_or_none(fields.get("type")),
        param=_text_or_none(fields.get("param")),
        code=_text_or_none(fields.get("code")),
        **headers,
    )


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.strip().isdecimal() else None


def reply(raw: dict[str, Any]) -> Reply:
    """Reads the answer of a chat."""
    return _reply(raw, lambda choice: choice["message"].get("content"))


def completed(raw: dict[str, Any]) -> Reply:
    """Reads the answer to a raw prompt."""
    return _reply(raw, lambda choice: choice["text"])


def _reply(raw: dict[str, Any], text_of: Callable[[Any], object]) -> Reply:
    try:
        choice = raw["choices"][0]
        text, finish_reason = text_of(choice), choice.get("finish_reason")
        usage = dict(raw.get("usage") or {})
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise LLMProtocolError(f"the answer has no first choice with a text: {raw}") from error
    if not isinstance(text, str | None) or not isinstance(finish_reason, str | None):
        raise LLMProtocolError(f"the answer's text or finish_reason is not a string: {raw}")
    return Reply(text or "", finish_reason=finish_reason, usage=usage, raw=raw)


def delta(chunk: dict[str, Any]) -> str:
    """Returns the text that a chat's chunk adds to the first choice."""
    return _delta(chunk, lambda choice: choice["delta"].get("content"))


def completed_delta(chunk: dict[str, Any]) -> str:
    """Returns the text that a chunk adds to the first answer to a raw prompt."""
    return _delta(chunk, lambda choice: choice["text"])


def _delta(chunk: dict[str, Any], text_of: Callable[[Any], object]) -> str:
    try:
        first = [choice for choice in chunk["choices"] if choice.get("index", 0) == 0]
        text = text_of(first[0]) if first else None
    except (LookupError, TypeError, AttributeError) as error:
        raise LLMProtocolError(f"an event of the stream has another form: {chunk}") from error
    if not isinstance(text, str | None):
        raise LLMProtocolError(f"an event's text is not a string: {chunk}")
    return text or ""
