"""One chat turn, from a checked request to the pieces of an answer; knows nothing of HTTP."""

from __future__ import annotations

import datetime
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from ..api.openai_chat import protocol as openai
from ..backend.supervisor import Supervisor
from ..backend.tickets import Ticket
from ..config import Config
from ..errors import (
    ContextExceededError,
    EngineFailedError,
    InvalidRequestError,
    TimedOutError,
    UnknownModelError,
)
from ..metrics import Metrics
from ..protocol.messages import (
    SCHEMA_TOO_COMPLEX,
    Admitted,
    ChoiceFinished,
    Detokenize,
    Detokenized,
    Dialect,
    Finished,
    Grammar,
    Refused,
    RequestEvent,
    RequestFailed,
    Sampling,
    Segment,
    Submit,
    Text,
    Tokenize,
    Tokenized,
    TooLong,
)
from ..templates.base import Message, PromptError, ToolCall
from ..templates.registry import check, render
from .dates import ConversationDates
from .history import drop_oldest, limit_history
from .reader import AnswerReader, Piece
from .schemas import check_schema, schema_grammar
from .tools import PYTHON_TAG, Offer, offer

POLL_S = 0.05
FIRST_GRACE_S = 0.2
"""How long after its deadline a request without a token waits for the engine to say so."""
ENGINE_GRACE_S = 10.0
"""The same for one with a token, whose answer the engine ends between two steps."""
TRIMMED_SHARE = 8
"""What goes at least of a prompt that was not counted to its end: one part in so many."""
NO_OFFER = Offer((), forced=False, several=False)

_Event = TypeVar("_Event", bound=RequestEvent)


class ClientGoneError(Exception):
    """Nobody waits for the answer any more; its slot is free again."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: whether they are `gone`, when their request `arrived` (time.monotonic()), and the
    `scope` that their key gives them, which is empty without one."""

    gone: Callable[[], bool]
    arrived: float
    scope: str = ""


@dataclass(slots=True)
class Turn:
    """A chat turn in the engine. `finished` is there once `pieces` has ended by itself."""

    id: str
    created: int
    model: str
    fingerprint: str
    dropped_messages: int
    began: float
    ticket: Ticket
    n: int
    offer: Offer
    prompt_tokens: int = 0
    first_token_s: float | None = None
    timed_out: bool = False
    finish_reasons: dict[int, str] = field(default_factory=dict)
    finished: Finished | None = None

    def usage(self) -> openai.Usage:
        done = self._done()
        return openai.Usage(
            done.prompt_tokens,
            done.completion_tokens,
            done.prompt_tokens + done.completion_tokens,
            openai.CachedTokens(done.cached_tokens),
            openai.CompletionTokensDetails(
                done.accepted_prediction_tokens,
                done.rejected_prediction_tokens,
                text_tokens=done.completion_tokens,
            ),
        )

    def extension(self) -> openai.Extension:
        return openai.Extension(self.dropped_messages, self.timed_out)

    def timings(self) -> openai.Timings:
        done = self._done()
        computed = done.prompt_tokens - done.cached_tokens
        return openai.Timings(
            round(1000 * done.queued_s, 3),
            round(1000 * done.prefill_s, 3),
            round(1000 * done.decode_s, 3),
            _rate(computed, done.prefill_s),
            _rate(done.completion_tokens - self.n, done.decode_s),
            done.drafted_tokens,
            done.accepted_tokens,
        )

    def _done(self) -> Finished:
        if self.finished is None:
            raise RuntimeError("the turn has not finished")
        return self.finished


class Chat:
    """Turns checked requests into prompts, follows them through the engine, and has their tokens
    counted in `metrics`."""

    def __init__(
        self,
        config: Config,
        supervisor: Supervisor,
        today: Callable[[], datetime.date] = datetime.date.today,
        metrics: Metrics | None = None,
    ) -> None:
        self._config = config
        self._supervisor = supervisor
        self._today = today
        self._metrics = metrics or Metrics(supervisor.health)
        self._dates = ConversationDates()
        self.model = config.model_path.stem

    def begin(
        self,
        options: openai.Options,
        chat_messages: Sequence[openai.ChatMessage],
        caller: Caller,
    ) -> Turn:
        """Renders the prompt and waits until the engine has admitted it.

        Raises ServiceError for everything that keeps the request from being answered, and
        ClientGoneError.
        """
        self.check_model(options.model)
        self._check_limits(options)
        engine = self._supervisor.engine()
        offered, n, top_logprobs = NO_OFFER, 1, None
        if isinstance(options, openai.ChatRequest):
            offered, n, top_logprobs = offer(options), options.n or 1, options.wanted_logprobs()
        messages = [to_message(message, i) for i, message in enumerate(chat_messages)]
        kept, n_dropped = limit_history(messages, self._config.max_history)
        submit = Submit(
            0,
            self._render(engine.dialect, messages, kept, offered, caller.scope),
            sampling(options),
            options.completion_limit(),
            self._config.max_tokens,
            options.stops(),
            caller.arrived + self._config.timeout,
            n,
            top_logprobs,
            _grammar(options, offered),
            [PYTHON_TAG] if offered.tools else [],
            options.predicted(),
            caller.arrived,
            caller.scope,
        )
        trims = options.truncation == "trim"
        ticket = self._supervisor.submit(submit, trims)
        try:
            while not isinstance(event := self._first_event(ticket, caller), Admitted):
                long = _expected(event, TooLong)
                cut = drop_oldest(kept, _excess(kept, long, self._config.context_size))
                if not trims or cut == kept:
                    raise ContextExceededError(
                        self._config.context_size,
                        long.prompt_tokens,
                        long.completion_tokens,
                        long.at_least,
                    )
                n_dropped += len(kept) - len(cut)
                kept = cut
                segments = self._render(engine.dialect, messages, kept, offered, caller.scope)
                submit = msgspec.structs.replace(submit, segments=segments)
                self._supervisor.submit_again(ticket, submit)
            return Turn(
                f"chatcmpl-{secrets.token_hex(12)}",
                int(time.time()),
                self.model,
                engine.fingerprint,
                n_dropped,
                caller.arrived,
                ticket,
                n,
                offered,
                event.prompt_tokens,
            )
        except BaseException:
            ticket.cancel()
            raise

    def pieces(self, turn: Turn, caller: Caller) -> Iterator[Piece | None]:
        """The pieces of the answer as they come; None whenever nothing came for a short while.

        Raises ServiceError when the engine fails, and ClientGoneError. Closing the iterator early,
        or an error in it, frees the slot.
        """
        readers = [AnswerReader(choice, turn.offer) for choice in range(turn.n)]
        last_came: dict[int, float] = {}
        grace = FIRST_GRACE_S
        try:
            while turn.finished is None:
                event = self._next(turn.ticket, caller, grace)
                if event is None:
                    yield None
                    continue
                grace = ENGINE_GRACE_S
                if isinstance(event, Text):
                    now = time.monotonic()
                    if turn.first_token_s is None:
                        turn.first_token_s = now - turn.began
                        self._metrics.first_token(turn.first_token_s)
                    if event.choice in last_came:
                        self._metrics.token_gap(now - last_came[event.choice])
                    last_came[event.choice] = now
                    yield from readers[event.choice].take(event)
                elif isinstance(event, ChoiceFinished):
                    turn.timed_out = turn.timed_out or event.timed_out
                    for piece in readers[event.choice].end(event):
                        if piece.finish is not None:
                            turn.finish_reasons[event.choice] = piece.finish
                        yield piece
                else:
                    turn.finished = _expected(event, Finished)
                    self._metrics.finished(turn.finished, turn.timed_out)
        finally:
            if turn.finished is None:
                turn.ticket.cancel()

    def tokenize(self, request: openai.TokenizeRequest, caller: Caller) -> Tokenized:
        """The tokens of a text, or of the prompt that messages make. Raises ServiceError."""
        if request.text is not None:
            segments = [Segment(request.text, False)]
        else:
            messages = [to_message(m, i) for i, m in enumerate(request.messages or ())]
            tools = Offer(tuple(request.tools or ()), forced=False, several=False)
            dialect = self._supervisor.engine().dialect
            segments = self._render(dialect, messages, messages, tools, caller.scope)
        deadline = caller.arrived + self._config.timeout
        return _expected(self._ask(Tokenize(0, segments, deadline), caller), Tokenized)

    def detokenize(self, tokens: list[int], caller: Caller) -> str:
        """The text of tokens, control tokens included. Raises ServiceError."""
        return _expected(self._ask(Detokenize(0, tokens), caller), Detokenized).text

    def check_model(self, name: str | None) -> None:
        """Raises UnknownModelError for a name that is not this model's."""
        if name not in (None, "", self.model, self._config.model_path.name):
            raise UnknownModelError(name or "", self.model)

    def _check_limits(self, options: openai.Options) -> None:
        limit = options.completion_limit()
        if limit is not None and limit > self._config.max_tokens:
            raise InvalidRequestError(
                f"{limit} tokens are too many for an answer; this server gives at most "
                f"{self._config.max_tokens} (LLM_MAX_TOKENS).",
                "max_tokens" if options.max_completion_tokens is None else "max_completion_tokens",
            )
        n = options.n if isinstance(options, openai.ChatRequest) else None
        if n is not None and n > self._config.parallel:
            raise InvalidRequestError(
                f"n is {n}; this server gives at most {self._config.parallel} answers to a "
                "request (LLM_PARALLEL).",
                "n",
            )

    def _render(
        self,
        dialect: Dialect,
        messages: Sequence[Message],
        kept: Sequence[Message],
        offered: Offer,
        scope: str,
    ) -> list[Segment]:
        """The prompt of the messages that are kept; all of them decide on errors and the date."""
        tools = offered.rendered or None
        try:
            check(dialect, messages, tools)
            date = self._dates.date_for(messages, self._today(), scope)
            return render(dialect, kept, date=date, tools=tools)
        except PromptError as error:
            raise InvalidRequestError(error.message, error.param) from None

    def _ask(self, command: Tokenize | Detokenize, caller: Caller) -> RequestEvent:
        ticket = self._supervisor.submit(command)
        try:
            return self._first_event(ticket, caller)
        except BaseException:
            ticket.cancel()
            raise

    def _first_event(self, ticket: Ticket, caller: Caller) -> RequestEvent:
        if self._left(caller, FIRST_GRACE_S) <= 0:  # after many tries, none of which took long
            raise TimedOutError(self._config.timeout)
        event = None
        while event is None:
            event = self._next(ticket, caller, FIRST_GRACE_S)
        return event

    def _left(self, caller: Caller, grace: float) -> float:
        """Seconds until the engine is waited for no longer: it keeps the deadline itself, and has
        so many seconds more to say so."""
        return caller.arrived + self._config.timeout + grace - time.monotonic()

    def _next(self, ticket: Ticket, caller: Caller, grace: float) -> RequestEvent | None:
        """The next event, None after a short while; errors are raised."""
        left = self._left(caller, grace)
        event = ticket.next(max(0.0, min(POLL_S, left)))
        if caller.gone():
            raise ClientGoneError
        if event is None:
            if left <= POLL_S:
                raise TimedOutError(self._config.timeout)
            return None
        if isinstance(event, Refused):
            raise InvalidRequestError(event.message, event.param)
        if isinstance(event, RequestFailed):
            if event.code == "timeout":
                raise TimedOutError(self._config.timeout)
            if event.code == SCHEMA_TOO_COMPLEX:
                raise InvalidRequestError(
                    f"The schema is too complex to be followed: {event.message}.",
                    code=event.code,
                )
            raise EngineFailedError(
                f"The model failed on this request: {event.message}.", code=event.code
            )
        return event


def _expected(event: RequestEvent, kind: type[_Event]) -> _Event:
    """Raises ServiceError for an answer of the engine that belongs to another question."""
    if isinstance(event, kind):
        return event
    raise EngineFailedError(
        f"The engine answered with {type(event).__name__} in the place of {kind.__name__}.",
        code="engine_error",
    )


def simple_messages(request: openai.SimpleChatRequest) -> list[openai.ChatMessage]:
    """The conversation that a body of POST /chat means. Raises ServiceError."""
    if (request.message is None) == (request.messages is None):
        raise InvalidRequestError("Give either message or messages.", "message")
    if request.messages is not None:
        if request.history is not None or request.system is not None:
            raise InvalidRequestError(
                "history and system go with message; put them into messages.",
                "history" if request.history is not None else "system",
            )
        return request.messages
    messages: list[openai.ChatMessage] = []
    if request.system is not None:
        messages.append(openai.SystemMessage(content=request.system))
    messages += request.history or []
    messages.append(openai.UserMessage(content=request.message or ""))
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
        top_k=options.top_k or 0,
        top_p=1.0 if options.top_p is None else options.top_p,
        min_p=options.min_p or 0.0,
        repeat_penalty=options.repeat_penalty or 1.0,
        frequency_penalty=options.frequency_penalty or 0.0,
        presence_penalty=options.presence_penalty or 0.0,
        seed=options.seed,
        logit_bias={int(token): bias for token, bias in (options.logit_bias or {}).items()},
        ignore_eos=bool(options.ignore_eos),
    )


def _grammar(options: openai.Options, offered: Offer) -> Grammar | None:
    """What the answer has to follow. Raises InvalidRequestError for two things that contradict
    each other."""
    form = options.response_format
    from_tools = offered.grammar()
    if form is None or isinstance(form, openai.TextFormat):
        return from_tools
    if from_tools is not None:
        raise InvalidRequestError(
            "An answer cannot follow response_format and be a forced or strict function call.",
            "response_format",
        )
    if isinstance(form, openai.JsonObjectFormat):
        return schema_grammar({"type": "object"}, "response_format")
    assert form.json_schema.schema is not None
    param = "response_format.json_schema.schema"
    check_schema(form.json_schema.schema, param)
    return schema_grammar(form.json_schema.schema, param)


def _excess(kept: Sequence[Message], event: TooLong, context_size: int) -> int:
    """How many of the oldest messages to drop for a prompt that is too long, by their lengths.

    Of a prompt that was not counted to its end nobody knows how long it is. As what is known is too
    little, a part of it goes each time, so that a long one needs no hundreds of tries.
    """
    excess = event.prompt_tokens + event.completion_tokens - context_size
    length = sum(len(message.text) for message in kept)
    left = excess * length / max(1, event.prompt_tokens)
    if event.at_least:
        left = max(left, length / TRIMMED_SHARE)
    others = [message for message in kept if message.role != "system"]
    for count, message in enumerate(others, 1):
        left -= len(message.text)
        if left <= 0:
            return count
    return len(others)


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 2) if count > 0 and seconds > 0 else None


def to_message(message: openai.ChatMessage, index: int) -> Message:
    """A message as prompts know it: developer is system, text parts are one text, the arguments of
    a call are parsed. Raises ServiceError when they are no JSON object."""
    if isinstance(message, openai.ToolMessage):
        return Message("tool", openai.plain(message.content), tool_call_id=message.tool_call_id)
    if isinstance(message, openai.UserMessage):
        return Message("user", openai.plain(message.content))
    if isinstance(message, openai.AssistantMessage):
        calls = tuple(
            _tool_call(call, f"messages[{index}].tool_calls[{i}].function.arguments")
            for i, call in enumerate(message.tool_calls or [])
        )
        if message.content is None and not calls:
            raise InvalidRequestError(
                "An assistant message needs content or tool_calls.", f"messages[{index}].content"
            )
        return Message("assistant", openai.plain(message.content or ""), tool_calls=calls)
    return Message("system", openai.plain(message.content))


def _tool_call(call: openai.ToolCallParam, param: str) -> ToolCall:
    try:  # not json.loads, which lets NaN and lone surrogates in
        arguments = msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequestError("arguments must be a JSON object in a string.", param)
    if openai.too_deep(arguments):
        raise InvalidRequestError(
            f"arguments are nested deeper than {openai.MAX_NESTING} levels.", param
        )
    return ToolCall(call.function.name, arguments, id=call.id)
