"""Responses of OpenAI's Responses API, as the client returns them.

The format is that of https://platform.openai.com/docs/api-reference/responses/object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

from .errors import LLMProtocolError, ResponseCancelledError
from .replies import api_error

ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})
"""The states of a response that changes no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function call in a response. `id` is its `call_id`, `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Response:
    """A response, whole or as far as it is.

    `status` is `completed`, `incomplete`, `failed`, `cancelled`, `queued` or `in_progress`. `calls`
    are the function calls, `usage` has the token counts, and `raw` is the whole JSON; there
    `incomplete_details` says why a response is incomplete.
    """

    text: str
    _: KW_ONLY
    id: str
    status: str
    calls: tuple[Call, ...]
    usage: dict[str, Any]
    raw: dict[str, Any]


def response(raw: dict[str, Any]) -> Response:
    """Reads a response object. Raises LLMProtocolError."""
    try:
        output = list(raw.get("output") or [])
        found = Response(
            "".join(_texts(output)),
            id=_string(raw["id"]),
            status=_string(raw["status"]),
            calls=tuple(_call(item) for item in output if item["type"] == "function_call"),
            usage=dict(raw.get("usage") or {}),
            raw=raw,
        )
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise LLMProtocolError(f"this is not a response object: {raw}") from error
    return found


def raise_for_end(found: Response) -> None:
    """Raises ServerError if a response failed, ResponseCancelledError if it was cancelled."""
    if found.status == "failed":
        raise api_error(200, found.raw.get("error"))
    if found.status == "cancelled":
        raise ResponseCancelledError(f"the response {found.id} was cancelled")


def _texts(output: list[Any]) -> Iterator[str]:
    for item in output:
        if item["type"] == "message":
            for part in item["content"]:
                if part["type"] == "output_text":
                    yield _string(part["text"])


def _call(item: Any) -> Call:
    return Call(
        id=_string(item["call_id"]),
        name=_string(item["name"]),
        arguments=_string(item["arguments"]),
    )


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a string: {value!r}")
    return value
