"""Errors reported to callers, as the core names them; `web` maps them to HTTP."""

from __future__ import annotations


class ServiceError(Exception):
    """An error whose message is for the caller.

    `code` names it for programs. `param` names the part of the request that it is about, such as
    `messages[2].content`. `retry` False means that repeating the request is useless. `retry_after`
    is in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry: bool = True,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.retry = retry
        self.retry_after = retry_after


class InvalidRequestError(ServiceError):
    """Bad input, for the caller to fix."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message, code=code, param=param)


class UnknownModelError(InvalidRequestError):
    """The request names a model that this server does not have."""

    def __init__(self, name: str, own: str) -> None:
        super().__init__(
            f"The model {name!r} does not exist here; this server has {own!r}. LLM_MODEL_ALIASES "
            "gives it further names, * any name.",
            "model",
            "model_not_found",
        )


class UnknownResponseError(InvalidRequestError):
    """There is no such response, or it is another caller's. The words are OpenAI's."""

    def __init__(self, id: str) -> None:
        super().__init__(f"Response with id {id[:100]!r} not found.", "id", "response_not_found")


class UnknownItemError(InvalidRequestError):
    """A request refers to an item that no response of its caller has."""

    def __init__(self, id: str, param: str) -> None:
        super().__init__(
            f"Item with id {id[:100]!r} not found. Items are kept with their response, unless that "
            "had store: false or was deleted.",
            param,
            "item_not_found",
        )


class ContextExceededError(InvalidRequestError):
    """The prompt leaves no room for an answer in the context. Counts are in tokens; `at_least` says
    that the prompt was not counted to its end. `place` is what the request calls the prompt. The
    message begins with OpenAI's words, which clients look for. It has no double quote: litellm
    looks in the body's repr, where the apostrophe would then be escaped. `trims` is the value of
    `truncation` that would have messages left out; `trimmed` says that they were."""

    def __init__(
        self,
        *,
        n_context: int,
        n_prompt: int,
        at_least: bool = False,
        place: str = "messages",
        trims: str = "trim",
        trimmed: bool = False,
    ) -> None:
        self.n_context = n_context
        self.n_prompt = n_prompt
        self.at_least = at_least
        least = "at least " if at_least else ""
        advice = "Shorten it."
        if place == "messages" and trimmed:
            advice = (
                "All messages before the last question were left out already: shorten that one, or "
                "have the server started with a larger LLM_CONTEXT_SIZE."
            )
        elif place == "messages":
            advice = (
                f"Shorten the messages, or send truncation: {trims} to have the oldest left out."
            )
        super().__init__(
            f"This model's maximum context length is {n_context} tokens. However, your {place} "
            f"resulted in {least}{n_prompt} tokens, which leaves no room for an answer. {advice}",
            place,
            "context_length_exceeded",
        )


class RequestCrashesEngineError(InvalidRequestError):
    """The engine died while it worked on this request alone."""

    def __init__(self) -> None:
        super().__init__(
            "The engine stopped each time it worked on this request, the last time on it alone. "
            "It is not tried again. Change the request.",
            code="request_crashes_engine",
        )
        self.retry = False


class QueueFullError(ServiceError):
    """No more requests may wait."""

    def __init__(self, running: int, waiting: int, retry_after: int) -> None:
        super().__init__(
            f"The server is busy: it accepts no more than it has (running: {running}, waiting: "
            f"{waiting}). Try again later.",
            code="queue_full",
            retry_after=retry_after,
        )


class ModelUnavailableError(ServiceError):
    """The model cannot be used, and no retry will change that."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, code="model_unavailable", retry=False)


class NotReadyError(ServiceError):
    """The model cannot be used yet: `code` is loading, restarting or shutting_down."""

    def __init__(self, message: str, code: str, retry_after: int) -> None:
        super().__init__(message, code=code, retry_after=retry_after)


class EngineCrashedError(ServiceError):
    """The engine process ended while it worked on this request."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The engine stopped while it worked on this request: {reason}. It is being restarted.",
            code="engine_crashed",
            retry_after=2,
        )


class TimedOutError(ServiceError):
    """The request's deadline passed before the engine had an answer."""

    def __init__(self, seconds: float, setting: str = "LLM_TIMEOUT") -> None:
        super().__init__(
            f"The answer was not ready within {seconds:g} seconds ({setting}).",
            code="timeout",
            retry=False,
        )


class EngineFailedError(ServiceError):
    """The engine failed on this request, but still runs."""


class StoreError(ServiceError):
    """The store of responses failed. At the start the message names the file; later it does not,
    as it is for callers."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="store_failed")


class StoreFullError(StoreError):
    """A response was not stored. The message is the reason."""
