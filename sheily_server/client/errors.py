"""Errors that the client's calls raise."""

from __future__ import annotations


class LLMError(Exception):
    """The base of every error that a call raises."""


class LLMConnectionError(LLMError):
    """The server could not be reached, or went away before it answered."""


class LLMTimeoutError(LLMError):
    """The server was silent for longer than the client's timeout."""


class LLMProtocolError(LLMError):
    """The response is not what this server sends. Something else may answer at this address."""


class StreamInterruptedError(LLMError):
    """A stream ended before its end was announced: the text is incomplete."""


class ResponseCancelledError(LLMError):
    """A response was cancelled before its end: the text is incomplete."""


class LLMAPIError(LLMError):
    """The server answered with an error.

    `status` is the HTTP status: 200 if the error came inside an answer that had already begun.
    `message`, `type`, `param` and `code` are OpenAI's; `param` names the field of the request.
    `retry_after` is in seconds, or None if the server named no time.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{message} [HTTP {status}{', ' + code if code else ''}]")
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after


class BadRequestError(LLMAPIError):
    """Status 400: the request itself is wrong, and the same one will fail again."""


class RateLimitedError(LLMAPIError):
    """Status 429: the server is full; wait for `retry_after` seconds."""


class ServerError(LLMAPIError):
    """Status 500 and above, or an error inside an answer: the server or its model failed."""
