"""The one shape of every error a caller sees, and the errors the server itself decides on."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error with its HTTP status and the fields of OpenAI's error object.

    `param` names the field of the request, such as `messages[2].content`. `retry` False tells the
    official OpenAI clients, which repeat every 429 and 5xx twice, that repeating is of no use;
    `retry_after` is in seconds.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str,
        code: str | None = None,
        param: str | None = None,
        retry: bool = True,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.retry = retry
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


def invalid_request(
    message: str, param: str | None = None, code: str = "invalid_value", status: int = 400
) -> ApiError:
    """Bad input: the caller's to mend."""
    return ApiError(status, message, type="invalid_request_error", code=code, param=param)


def model_unavailable(reason: str) -> ApiError:
    """The model cannot be used, and no retry will change that."""
    return ApiError(500, reason, type="server_error", code="model_unavailable", retry=False)


def not_ready(message: str, code: str, retry_after: int) -> ApiError:
    """The model cannot be used yet."""
    return ApiError(503, message, type="server_error", code=code, retry_after=retry_after)


def queue_full(running: int, waiting: int, retry_after: int) -> ApiError:
    """Everything that may wait is waiting already."""
    return ApiError(
        429,
        f"The server is busy: it accepts no more than it has (running: {running}, waiting: "
        f"{waiting}). Try again later.",
        type="rate_limit_error",
        code="queue_full",
        retry_after=retry_after,
    )


def engine_crashed(reason: str) -> ApiError:
    """The engine process ended while it worked on this request."""
    return ApiError(
        503,
        f"The engine stopped while it worked on this request: {reason}. It is being restarted.",
        type="server_error",
        code="engine_crashed",
        retry_after=2,
    )


def request_crashes_engine() -> ApiError:
    """The engine died while it worked on this request and on nothing else."""
    return ApiError(
        400,
        "The engine stopped each time it worked on this request, the last time on nothing else; "
        "it is not tried again. Change the request.",
        type="invalid_request_error",
        code="request_crashes_engine",
        retry=False,
    )


def timed_out(seconds: float) -> ApiError:
    """The request's deadline passed, and the engine had no answer for it."""
    return ApiError(
        504,
        f"The answer was not ready within {seconds:g} seconds (LLM_TIMEOUT).",
        type="server_error",
        code="timeout",
        retry=False,
    )


def context_exceeded(
    n_context: int, n_prompt: int, n_completion: int, at_least: bool = False
) -> ApiError:
    """Prompt and answer do not fit into the context together; `at_least`: the prompt was not
    counted to its end."""
    least = "at least " if at_least else ""
    return invalid_request(
        f"This model's context holds {n_context} tokens, but this request needs {least}"
        f"{n_prompt + n_completion} ({least}{n_prompt} in the messages, {n_completion} for the "
        "completion). Shorten the messages or the completion.",
        param="messages",
        code="context_length_exceeded",
    )
