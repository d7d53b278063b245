"""What a stored response is after its server has ended in the middle of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from openai.types.responses import Response

from sheily_server.api.responses.kept import interrupted
from tests.support.records import record

BODY = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_800_000_000,
    "status": "in_progress",
    "error": None,
    "incomplete_details": {"reason": "max_output_tokens"},
    "model": "fake",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "metadata": {"é": "ü"},
    "top_p": 1.0,
}


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_it_has_failed_with_a_reason(status: str) -> None:
    before = replace(
        record("1", status=status), body=json.dumps(BODY | {"status": status}).encode()
    )
    after = interrupted(before)
    assert after == replace(before, status="failed", body=after.body)
    response = Response.model_validate_json(after.body, strict=True)
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == "server_error"
    assert "The server ended" in response.error.message
    others = set(BODY) - {"status", "error", "incomplete_details"}
    found = json.loads(after.body)
    assert {name: found[name] for name in others} == {name: BODY[name] for name in others}
    assert found["incomplete_details"] is None
