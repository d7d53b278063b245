"""One chat turn, from a checked request to the pieces of an answer; knows nothing of HTTP."""

from __future__ import annotations

import datetime
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from . import openai
from .config import Config
from .engine.messages import Admitted, Finished, RequestFailed, Sampling, Text, TooLong
from .errors import ApiError, context_exceeded, invalid_request, timed_out
from .history import limit_history
from .prompts import PromptError, check, render
from .prompts.dates import ConversationDates
from .prompts.message import Message, ToolCall
from .supervisor import Request, Supervisor, Ticket

POLL_S = 0.05
ENGINE_GRACE_S = 10.0


class ClientGoneError(Exception):
    """Nobody waits for the answer any more; its slot is free again."""


@dataclass(slots=True)
class Turn:
    """A chat turn in the engine. `finished` is there once `pieces` has ended by itself."""

    id: str
    created: int
    model: str
    dropped_messages: int
    began: float
    ticket: Ticket
    prompt_tokens: int = 0
    first_token_s: float | None = None
    finished: Finished | None = None

    def usage(self) -> openai.Usage:
        assert self.finished is not None
        done = self.finished
        return openai.Usage(
            done.prompt_tokens,
            done.completion_tokens,
            done.prompt_tokens + done.completion_tokens,
            openai.CachedTokens(done.cached_tokens),
        )

    def extension(self) -> openai.Extension:
        timed_out = self.finished is not None and self.finished.timed_out
        return openai.Extension(self.dropped_messages, timed_out)


class Chat:
    """Turns checked requests into prompts and follows them through the engine."""

    def __init__(
        self,
        config: Config,
        supervisor: Supervisor,
        today: Callable[[], datetime.date] = datetime.date.today,
    ) -> None:
        self._config = config
        self._supervisor = supervisor
        self._today = today
        self._dates = ConversationDates()
        self.model = config.model_path.stem

    def begin(
        self,
        options: openai.Options,
        chat_messages: Sequence[openai.ChatMessage],
        gone: Callable[[], bool],
    ) -> Turn:
        """Renders the prompt and waits until the engine has admitted it.

        Raises ApiError for everything that keeps the request from being answered, and
        ClientGoneError.
        """
        self._check_model(options.model)
        limit = options.completion_limit()
        if limit is not None and limit > self._config.max_tokens:
            raise invalid_request(
                f"{limit} tokens are too many for an answer; this server gives at most "
                f"{self._config.max_tokens} (LLM_MAX_TOKENS).",
                "max_tokens" if options.max_completion_tokens is None else "max_completion_tokens",
            )
        dialect = self._supervisor.dialect()
        messages = [to_message(message, i) for i, message in enumerate(chat_messages)]
        try:
            check(dialect, messages)
            kept, n_dropped = limit_history(messages, self._config.max_history)
            date = self._dates.date_for(messages, self._today())
            segments = render(dialect, kept, date=date)
        except PromptError as error:
            raise invalid_request(error.message, error.param) from None
        ticket = self._supervisor.submit(
            Request(
                segments,
                sampling(options),
                limit,
                self._config.max_tokens,
                options.stops(),
                self._config.timeout,
            )
        )
        turn = Turn(
            f"chatcmpl-{secrets.token_hex(12)}",
            int(time.time()),
            self.model,
            n_dropped,
            time.monotonic(),
            ticket,
        )
        self._await_admission(turn, gone)
        return turn

    def pieces(self, turn: Turn, gone: Callable[[], bool]) -> Iterator[str | None]:
        """The text of the answer as it comes; None whenever nothing came for a short while.

        Raises ApiError when the engine fails, and ClientGoneError. Closing the iterator early, or
        an error in it, frees the slot.
        """
        try:
            while turn.finished is None:
                event = self._next(turn, gone)
                if event is None:
                    yield None
                elif isinstance(event, Text):
                    if turn.first_token_s is None:
                        turn.first_token_s = time.monotonic() - turn.began
                    yield event.text
                elif isinstance(event, Finished):
                    turn.finished = event
        finally:
            if turn.finished is None:
                turn.ticket.cancel()

    def _await_admission(self, turn: Turn, gone: Callable[[], bool]) -> None:
        event = None
        try:
            while event is None:
                event = self._next(turn, gone)
        except BaseException:
            turn.ticket.cancel()
            raise
        assert isinstance(event, Admitted)
        turn.prompt_tokens = event.prompt_tokens

    def _next(self, turn: Turn, gone: Callable[[], bool]) -> Admitted | Text | Finished | None:
        """The next event, None after a short while; errors are raised."""
        event = turn.ticket.next(POLL_S)
        if gone():
            raise ClientGoneError
        if event is None:
            if time.monotonic() - turn.began > self._config.timeout + ENGINE_GRACE_S:
                raise timed_out(self._config.timeout)
            return None
        if isinstance(event, TooLong):
            raise context_exceeded(
                self._config.context_size, event.prompt_tokens, event.completion_tokens
            )
        if isinstance(event, RequestFailed):
            if event.code == "timeout":
                raise timed_out(self._config.timeout)
            raise ApiError(
                500,
                f"The model failed on this request: {event.message}.",
                type="server_error",
                code=event.code,
            )
        return event

    def _check_model(self, name: str | None) -> None:
        if name not in (None, "", self.model, self._config.model_path.name):
            raise invalid_request(
                f"The model {name!r} does not exist here; this server has {self.model!r}.",
                "model",
                code="model_not_found",
                status=404,
            )


def simple_messages(request: openai.SimpleChatRequest) -> list[openai.ChatMessage]:
    """The conversation that a body of POST /chat means. Raises ApiError."""
    if (request.message is None) == (request.messages is None):
        raise invalid_request("Give either message or messages.", "message")
    if request.messages is not None:
        if request.history is not None or request.system is not None:
            raise invalid_request(
                "history and system go with message; put them into messages.",
                "history" if request.history is not None else "system",
            )
        return request.messages
    assert request.message is not None
    messages: list[openai.ChatMessage] = []
    if request.system is not None:
        messages.append(openai.SystemMessage(content=request.system))
    messages += request.history or []
    messages.append(openai.UserMessage(content=request.message))
    return messages


def simple_param(request: openai.SimpleChatRequest, param: str | None) -> str | None:
    """A place in the messages of `simple_messages`, by its name in the body of POST /chat."""
    if request.message is None or param is None or not param.startswith("messages"):
        return param
    place = re.fullmatch(r"messages\[(\d+)\](.*)", param)
    if place is None:
        return "message"
    index = int(place[1]) - (request.system is not None)
    if index < 0:
        return "system"
    return f"history[{index}]{place[2]}" if index < len(request.history or ()) else "message"


def sampling(options: openai.Options) -> Sampling:
    """OpenAI's defaults where the request says nothing: temperature 1, top_p 1, a new seed."""
    return Sampling(
        temperature=1.0 if options.temperature is None else options.temperature,
        top_p=1.0 if options.top_p is None else options.top_p,
        frequency_penalty=options.frequency_penalty or 0.0,
        presence_penalty=options.presence_penalty or 0.0,
        seed=options.seed,
    )


def to_message(message: openai.ChatMessage, index: int) -> Message:
    """A message as prompts know it: developer is system, text parts are one text, the arguments of
    a call are parsed. Raises ApiError when they are no JSON object."""
    if isinstance(message, openai.ToolMessage):
        return Message("tool", _text(message.content), tool_call_id=message.tool_call_id)
    if isinstance(message, openai.UserMessage):
        return Message("user", _text(message.content))
    if isinstance(message, openai.AssistantMessage):
        calls = tuple(
            _tool_call(call, f"messages[{index}].tool_calls[{i}].function.arguments")
            for i, call in enumerate(message.tool_calls or [])
        )
        if message.content is None and not calls:
            raise invalid_request(
                "An assistant message needs content or tool_calls.", f"messages[{index}].content"
            )
        return Message("assistant", _text(message.content or ""), tool_calls=calls)
    return Message("system", _text(message.content))


def _text(content: openai.Content) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content)


def _tool_call(call: openai.ToolCallParam, param: str) -> ToolCall:
    try:  # not json.loads, which lets NaN and lone surrogates in
        arguments = msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise invalid_request("arguments must be a JSON object in a string.", param)
    return ToolCall(call.function.name, arguments, id=call.id)
