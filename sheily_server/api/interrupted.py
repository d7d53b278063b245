"""What becomes of a stored response whose server ended before it was finished."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ..store.base import Record

REASON = "The server ended while it worked on this response."


def interrupted(record: Record) -> Record:
    """Returns the record as a failed response with the reason, in the form of OpenAI's Responses
    API."""
    response = msgspec.json.decode(record.body, type=dict[str, msgspec.Raw])
    error = {"code": "server_error", "message": REASON}
    body = response | {"status": "failed", "error": error, "incomplete_details": None}
    return replace(record, status="failed", body=msgspec.json.encode(body))
