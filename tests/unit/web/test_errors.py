"""What each kind of error is in HTTP, and what it tells a client about trying again."""

from __future__ import annotations

import json

import pytest

from sheily_server import errors
from sheily_server.api.openai_chat.dialect import OPENAI
from sheily_server.errors import ServiceError
from sheily_server.metrics import Outcome
from sheily_server.web.errors import KINDS, HttpError, body, headers, kind

INVALID = "invalid_request_error"
MODEL = "model_unavailable"


def test_the_body_is_openais_error_object() -> None:
    error = errors.InvalidRequestError("no tea", "p", "c")
    assert json.loads(body(error, OPENAI, "req_1")) == {
        "error": {"message": "no tea", "type": INVALID, "param": "p", "code": "c"}
    }
    assert str(error) == "no tea"
    assert headers(error) == {}


@pytest.mark.parametrize(
    ("error", "status", "type", "outcome", "code"),
    [
        (errors.InvalidRequestError("m"), 400, INVALID, "invalid", "invalid_value"),
        (errors.UnknownModelError("a", "b"), 404, INVALID, "invalid", "model_not_found"),
        (
            errors.ContextExceededError(n_context=9, n_prompt=8),
            *(400, INVALID, "invalid", "context_length_exceeded"),
        ),
        (errors.RequestCrashesEngineError(), 400, INVALID, "invalid", "request_crashes_engine"),
        (errors.QueueFullError(4, 16, 7), 429, "rate_limit_error", "queue_full", "queue_full"),
        (errors.ModelUnavailableError("m"), 500, "server_error", "unavailable", MODEL),
        (errors.NotReadyError("m", "loading", 3), 503, "server_error", "unavailable", "loading"),
        (errors.EngineCrashedError("m"), 503, "server_error", "engine_crashed", "engine_crashed"),
        (errors.TimedOutError(2.5), 504, "server_error", "timeout", "timeout"),
        (errors.EngineFailedError("m", code="c"), 500, "server_error", "error", "c"),
        (errors.StoreFullError("m"), 500, "server_error", "error", "store_failed"),
        (HttpError(401, "m", "invalid_api_key"), 401, INVALID, "unauthorized", "invalid_api_key"),
        (HttpError(403, "m", "host_not_allowed"), 403, INVALID, "unauthorized", "host_not_allowed"),
        (HttpError(413, "m", "request_too_large"), 413, INVALID, "invalid", "request_too_large"),
        (HttpError(501, "m", "not_implemented"), 501, INVALID, "invalid", "not_implemented"),
        (HttpError(500, "m", "internal_error"), 500, "server_error", "error", "internal_error"),
    ],
)  # fmt: skip
def test_kinds(error: ServiceError, status: int, type: str, outcome: Outcome, code: str) -> None:
    assert kind(error) == (status, outcome)
    assert json.loads(body(error, OPENAI))["error"]["type"] == type
    assert error.code == code
    assert error.message


def test_every_class_of_the_core_has_a_kind() -> None:
    todo = [ServiceError]
    while todo:
        for each in todo.pop().__subclasses__():
            todo.append(each)
            assert each is HttpError or any(above in KINDS for above in each.__mro__), each


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.InvalidRequestError("m"), {}),
        (errors.QueueFullError(4, 16, 7), {"Retry-After": "7"}),
        (errors.NotReadyError("m", "loading", 3), {"Retry-After": "3"}),
        (errors.EngineCrashedError("m"), {"Retry-After": "2"}),
        (errors.TimedOutError(2.5), {"X-Should-Retry": "false"}),
        (errors.ModelUnavailableError("m"), {"X-Should-Retry": "false"}),
        (errors.RequestCrashesEngineError(), {"X-Should-Retry": "false"}),
        (HttpError(401, "m", "invalid_api_key"), {"WWW-Authenticate": "Bearer"}),
    ],
)
def test_what_a_client_is_told_about_trying_again(
    error: ServiceError, expected: dict[str, str]
) -> None:
    assert headers(error) == expected


def test_messages_name_the_numbers() -> None:
    too_long = errors.ContextExceededError(n_context=4096, n_prompt=5000)
    for number in ("4096", "5000"):
        assert number in too_long.message
    assert too_long.param == "messages"
    assert "2.5 seconds" in errors.TimedOutError(2.5).message
    assert "LLM_TIMEOUT" in errors.TimedOutError(2.5).message
    busy = errors.QueueFullError(4, 16, 7).message
    assert "running: 4" in busy
    assert "waiting: 16" in busy
