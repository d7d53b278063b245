"""The shape of errors, and what each kind tells a client about trying again."""

from __future__ import annotations

import pytest

from sheily_server import errors
from sheily_server.errors import ApiError


def test_the_body_is_openais_error_object() -> None:
    error = ApiError(418, "no tea", type="t", code="c", param="p")
    assert error.body() == {"error": {"message": "no tea", "type": "t", "param": "p", "code": "c"}}
    assert str(error) == "no tea"
    assert error.retry
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("error", "status", "type", "code", "retry", "retry_after"),
    [
        (errors.invalid_request("m"), 400, "invalid_request_error", "invalid_value", True, None),
        (errors.model_unavailable("m"), 500, "server_error", "model_unavailable", False, None),
        (errors.not_ready("m", "loading", 3), 503, "server_error", "loading", True, 3),
        (errors.queue_full(4, 16, 7), 429, "rate_limit_error", "queue_full", True, 7),
        (errors.engine_crashed("m"), 503, "server_error", "engine_crashed", True, 2),
        (errors.timed_out(2.5), 504, "server_error", "timeout", False, None),
        (
            errors.context_exceeded(64, 60, 5),
            400,
            "invalid_request_error",
            "context_length_exceeded",
            True,
            None,
        ),
    ],
)
def test_kinds(
    error: ApiError,
    status: int,
    type: str,
    code: str,
    retry: bool,
    retry_after: int | None,
) -> None:
    assert (error.status, error.type, error.code) == (status, type, code)
    assert (error.retry, error.retry_after) == (retry, retry_after)
    assert error.message


def test_messages_name_the_numbers() -> None:
    too_long = errors.context_exceeded(4096, 4000, 200)
    for number in ("4096", "4200", "4000", "200"):
        assert number in too_long.message
    assert too_long.param == "messages"
    assert "2.5 seconds" in errors.timed_out(2.5).message
    assert "LLM_TIMEOUT" in errors.timed_out(2.5).message
    busy = errors.queue_full(4, 16, 7).message
    assert "running: 4" in busy
    assert "waiting: 16" in busy
