"""One chat turn, from what is asked to the pieces of an answer; knows no dialect and no HTTP."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

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
from ..protocol.commands import Detokenize, PromptFormat, Segment, Submit, Tokenize
from ..protocol.events import (
    SCHEMA_TOO_COMPLEX,
    Admitted,
    ChoiceFinished,
    Detokenized,
    Finished,
    Refused,
    RequestEvent,
    RequestFailed,
    Text,
    Tokenized,
    TooLong,
)
from ..templates.base import CallSyntax, Message, Offer, PromptError
from ..templates.registry import render, template_of
from .dates import ConversationDates
from .generation import Generation
from .grammar import answer_grammar
from .history import drop_oldest, limit_history
from .reader import AnswerReader, Piece

POLL_S = 0.05
FIRST_GRACE_S = 0.2
"""How long after its deadline a request without a token waits for the engine to say so."""
ENGINE_GRACE_S = 10.0
"""The same for one with a token, whose answer the engine ends between two steps."""
TRIMMED_SHARE = 8
"""What goes at least of a prompt that was not counted to its end: one part in so many."""

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


@dataclass(slots=True, kw_only=True)
class Turn:
    """A chat turn in the engine. `finished` is there once `pieces` has ended by itself. `created`
    is in Unix seconds, `began` a time of time.monotonic()."""

    model: str
    fingerprint: str
    dropped_messages: int
    began: float
    ticket: Ticket
    n: int
    offer: Offer
    syntax: CallSyntax | None = None
    prompt_tokens: int = 0
    created: int = field(default_factory=lambda: int(time.time()))
    first_token_s: float | None = None
    timed_out: bool = False
    finish_reasons: dict[int, str] = field(default_factory=dict)
    finished: Finished | None = None

    def tokens_per_second(self) -> float | None:
        """Of the answers, behind their first tokens; None where there are none."""
        done = self.done()
        return rate(done.completion_tokens - self.n, done.decode_s)

    def done(self) -> Finished:
        """What the engine said at the end. Raises RuntimeError before that."""
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
        *,
        today: Callable[[], datetime.date] = datetime.date.today,
        metrics: Metrics | None = None,
    ) -> None:
        self._config = config
        self._supervisor = supervisor
        self._today = today
        self._metrics = metrics or Metrics(supervisor.health)
        self._dates = ConversationDates()
        self.model = config.model_path.stem

    def begin(self, asked: Generation, caller: Caller) -> Turn:
        """Renders the prompt and waits until the engine has admitted it.

        Raises ServiceError for everything that keeps the request from being answered, and
        ClientGoneError.
        """
        self._check_limits(asked)
        engine = self._supervisor.engine()
        syntax = template_of(engine.prompt_format).calls
        scope = caller.scope
        segments = self._renderer(engine.prompt_format, asked.messages, asked.offer, scope)
        kept, n_dropped = limit_history(asked.messages, self._config.max_history)
        if n_dropped:  # a fault in any message is told, by its place in all of them
            segments(asked.messages)
        submit = Submit(
            id=0,
            segments=segments(kept),
            sampling=asked.sampling,
            max_tokens=asked.max_tokens,
            max_tokens_cap=self._config.max_tokens,
            stop=asked.stop,
            deadline=caller.arrived + self._config.timeout,
            n=asked.n,
            top_logprobs=asked.top_logprobs,
            grammar=answer_grammar(asked.schema, asked.offer, syntax),
            visible=list(syntax.visible) if syntax and asked.offer.functions else [],
            prediction=asked.prediction,
            arrived=caller.arrived,
            scope=scope,
        )
        ticket = self._supervisor.submit(submit, asked.trims)
        try:
            while not isinstance(event := self._first_event(ticket, caller), Admitted):
                long = _expected(event, TooLong)
                cut = drop_oldest(kept, _excess(kept, long, self._config.context_size))
                if not asked.trims or cut == kept:
                    raise ContextExceededError(
                        n_context=self._config.context_size,
                        n_prompt=long.prompt_tokens,
                        n_completion=long.completion_tokens,
                        at_least=long.at_least,
                    )
                n_dropped += len(kept) - len(cut)
                kept = cut
                submit = msgspec.structs.replace(submit, segments=segments(kept))
                self._supervisor.submit_again(ticket, submit)
            return Turn(
                model=self.model,
                fingerprint=engine.fingerprint,
                dropped_messages=n_dropped,
                began=caller.arrived,
                ticket=ticket,
                n=asked.n,
                offer=asked.offer,
                syntax=syntax,
                prompt_tokens=event.prompt_tokens,
            )
        except BaseException:
            ticket.cancel()
            raise

    def pieces(self, turn: Turn, caller: Caller) -> Iterator[Piece | None]:
        """The pieces of the answer as they come; None whenever nothing came for a short while.

        Raises ServiceError when the engine fails, and ClientGoneError. Closing the iterator early,
        or an error in it, frees the slot.
        """
        readers = [AnswerReader(choice, turn.offer, turn.syntax) for choice in range(turn.n)]
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

    def tokenize(self, text: str, caller: Caller) -> Tokenized:
        """The tokens of a text. Raises ServiceError."""
        return self._tokenized([Segment(text, False)], caller)

    def tokenize_prompt(
        self, messages: Sequence[Message], offered: Offer, caller: Caller
    ) -> Tokenized:
        """The tokens of the prompt that messages make. Raises ServiceError."""
        prompt_format = self._supervisor.engine().prompt_format
        segments = self._renderer(prompt_format, messages, offered, caller.scope)
        return self._tokenized(segments(messages), caller)

    def _tokenized(self, segments: list[Segment], caller: Caller) -> Tokenized:
        deadline = caller.arrived + self._config.timeout
        return _expected(self._ask(Tokenize(0, segments, deadline), caller), Tokenized)

    def detokenize(self, tokens: list[int], caller: Caller) -> str:
        """The text of tokens, control tokens included. Raises ServiceError."""
        return _expected(self._ask(Detokenize(0, tokens), caller), Detokenized).text

    def check_model(self, name: str | None) -> None:
        """Raises UnknownModelError for a name that is not this model's."""
        if name not in (None, "", self.model, self._config.model_path.name):
            raise UnknownModelError(name or "", self.model)

    def _check_limits(self, asked: Generation) -> None:
        if asked.max_tokens is not None and asked.max_tokens > self._config.max_tokens:
            raise InvalidRequestError(
                f"{asked.max_tokens} tokens are too many for an answer; this server gives at most "
                f"{self._config.max_tokens} (LLM_MAX_TOKENS).",
                asked.max_tokens_place,
            )
        if asked.n > self._config.parallel:
            raise InvalidRequestError(
                f"n is {asked.n}; this server gives at most {self._config.parallel} answers to a "
                "request (LLM_PARALLEL).",
                "n",
            )

    def _renderer(
        self, prompt_format: PromptFormat, messages: Sequence[Message], offer: Offer, scope: str
    ) -> Callable[[Sequence[Message]], list[Segment]]:
        """What renders the prompt of as much of a conversation as is kept. All of its messages
        decide on the date. The function raises InvalidRequestError."""
        date = self._dates.date_for(messages, self._today(), scope)
        tools = offer.rendered or None

        def rendered(kept: Sequence[Message]) -> list[Segment]:
            try:
                return render(prompt_format, kept, date=date, tools=tools)
            except PromptError as error:
                raise InvalidRequestError(error.message, error.param) from None

        return rendered

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


def rate(count: int, seconds: float) -> float | None:
    """So many a second, to hundredths; None where there is nothing to count or to time."""
    return round(count / seconds, 2) if count > 0 and seconds > 0 else None
