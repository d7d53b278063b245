"""Follows turns through the engine, from what is asked to the pieces of an answer. Knows no dialect
and no HTTP."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from ..backend.sampling import Values
from ..backend.supervisor import Supervisor
from ..backend.tickets import Ticket
from ..config import FULL, Config
from ..errors import (
    ContextExceededError,
    EngineFailedError,
    InvalidRequestError,
    UnknownModelError,
)
from ..kvstore.owners import owner_of
from ..logs import escaped
from ..metrics import Metrics
from ..protocol.commands import CacheUse, Detokenize, PromptFormat, Segment, Submit, Tokenize
from ..protocol.events import (
    Admitted,
    ChoiceFinished,
    Detokenized,
    Finished,
    Prefilled,
    Prompted,
    RequestEvent,
    Text,
    Tokenized,
    TooLong,
)
from ..templates.base import Message, PromptError
from ..templates.registry import render, template_of
from .dates import ConversationDates
from .generation import Generation
from .grammar import answer_grammar
from .history import drop_oldest, excess_messages, limit_history
from .known_arguments import unknown_arguments
from .reader import AnswerReader, Piece, Progress
from .sampling import Wanted
from .turn import Caller, Turn
from .waiting import ENGINE_GRACE_S, FIRST_GRACE_S, Waiting

log = logging.getLogger(__name__)

ANSWER_SHARE = 4
"""Trimming leaves one part in ANSWER_SHARE of the context for an answer of unknown length."""
MOST_TOLD = 100
"""Fields without effect that are logged."""

_Event = TypeVar("_Event", bound=RequestEvent)


class Chat:
    """Turns checked requests into prompts, follows them through the engine, and counts their tokens
    in the `metrics`."""

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
        self._waiting = Waiting(config, supervisor)
        cache = supervisor.cache
        self._dates = ConversationDates(notes=None if cache is None else cache.dates)
        self.model = config.model_path.stem
        self._told: set[str] = set()

    def enter(self, asked: Generation, caller: Caller) -> Ticket:
        """Gives a request its place, and wakes an engine that sleeps. Follow with `begin`, or
        cancel the ticket. Raises ServiceError."""
        self._check_limits(asked)
        return self._supervisor.enter(asked.n_choices, asked.trims, caller.client)

    def is_awake(self, ticket: Ticket, caller: Caller, seconds: float) -> bool:
        """Waits up to some seconds until the engine is awake; returns whether it is. Raises
        ServiceError and ClientGoneError."""
        return self._waiting.is_awake(ticket, caller, seconds)

    def begin(self, asked: Generation, caller: Caller, ticket: Ticket | None = None) -> Turn:
        """Waits until the engine is awake, renders the prompt and waits until the engine has
        admitted it. `ticket` is the request's place if it has one; an error frees it.

        Raises ServiceError for whatever keeps the request from being answered, and ClientGoneError.
        """
        with self._waiting.place(caller, ticket or self.enter(asked, caller)) as place:
            return self._begin(asked, caller, place)

    def _begin(self, asked: Generation, caller: Caller, ticket: Ticket) -> Turn:
        most = self._config.max_tokens
        limit = most if asked.max_tokens is None else min(asked.max_tokens, most)
        engine = self._supervisor.engine()
        syntax = template_of(engine.prompt_format).calls
        self.tell_ignored(asked.ignored)
        unknown = self._unknown_arguments(asked, engine.prompt_format)
        ignored = [*asked.ignored, *unknown, *self._unkept(asked)]
        scope = caller.scope
        segments = self._renderer(engine.prompt_format, asked, scope)
        kept, n_dropped = asked.messages, 0
        if asked.history is not None:
            kept, n_dropped = limit_history(kept, asked.history)
        if n_dropped:  # reports a fault in any message, by its place among all
            segments(asked.messages)
        submit = Submit(
            id=0,
            segments=segments(kept),
            prompts=list(asked.prompts),
            echo=asked.echo,
            scores=asked.scores,
            sampling=asked.sampling.sampling(self._supervisor.defaults()),
            bias_texts=dict(asked.bias_texts),
            max_tokens=limit,
            room=self._room(asked, limit),
            stop=asked.stop,
            deadline=self._waiting.deadline(caller),
            n=asked.n,
            top_logprobs=asked.top_logprobs,
            grammar=answer_grammar(
                asked.form, asked.offer, syntax, min(self._config.parallel, FULL)
            ),
            visible=list(syntax.visible) if syntax and asked.offer.functions else [],
            prediction=asked.prediction,
            arrived=caller.arrived,
            scope=scope,
            client=list(caller.client),
            progress=asked.progress,
            cache=self._cache_use(asked, scope),
        )
        n_context = self._config.context_size
        self._supervisor.submit(submit, ticket=ticket)
        while not isinstance(event := self._waiting.first(ticket, caller), Admitted):
            long = _expected(event, TooLong)
            excess = excess_messages(kept, long, n_context) if asked.trims else 0
            cut = drop_oldest(kept, excess)
            if cut != kept:
                n_dropped += len(kept) - len(cut)
                kept = cut
                submit = msgspec.structs.replace(submit, segments=segments(kept))
            elif submit.room > 1:  # rather a short answer than none
                submit = msgspec.structs.replace(submit, room=1)
            else:
                raise ContextExceededError(
                    n_context=n_context,
                    n_prompt=long.prompt_tokens,
                    at_least=long.at_least,
                    place=long.place,
                    trims=asked.trim_word,
                    trimmed=asked.trims,
                )
            self._supervisor.submit_again(ticket, submit)
        return Turn(
            model=self.model,
            fingerprint=engine.fingerprint,
            dropped_messages=n_dropped,
            clamped=self._clamped(asked, limit, event.longest or event.prompt_tokens),
            ignored=ignored,
            relaxed=event.relaxed,
            began=caller.arrived,
            ticket=ticket,
            n=submit.n_choices,
            offer=asked.offer,
            syntax=syntax,
            bound=submit.grammar is not None,
            prompt_tokens=event.prompt_tokens,
            progress=asked.progress,
        )

    def pieces(self, turn: Turn, caller: Caller) -> Iterator[Piece | Progress | None]:
        """Yields the pieces of the answer as they come; None when nothing came for a short while.

        Raises ServiceError when the engine fails, and ClientGoneError. Closing the iterator early,
        or an error in it, frees the slot.
        """
        readers = [
            AnswerReader(choice, turn.offer, turn.syntax, bound=turn.bound)
            for choice in range(turn.n)
        ]
        last_came: dict[int, float] = {}
        grace = FIRST_GRACE_S
        try:
            while turn.finished is None:
                event = self._waiting.next(turn.ticket, caller, grace)
                if event is None:
                    yield self._moved(turn)
                    continue
                if isinstance(event, Prefilled):
                    yield Progress(
                        queue_place=None,
                        prompt_tokens=turn.prompt_tokens,
                        computed_tokens=event.computed_tokens,
                        cached_tokens=event.cached_tokens,
                    )
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
                    self._metrics.tokens(event.n_tokens - turn.n_tokens.get(event.choice, 0))
                    turn.n_tokens[event.choice] = event.n_tokens
                    yield from readers[event.choice].take(event)
                elif isinstance(event, Prompted):
                    yield Piece(event.choice, prompt=tuple(event.tokens))
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

    def _moved(self, turn: Turn) -> Progress | None:
        """Returns a request's place in the queue, where it wants to know and has moved."""
        place = self._supervisor.queue_place(turn.ticket) if turn.progress else None
        if place is None or place == turn.queue_place:
            return None
        turn.queue_place = place
        return Progress(queue_place=place, prompt_tokens=turn.prompt_tokens)

    def tokenize(self, text: str, caller: Caller) -> Tokenized:
        """Returns the tokens of a text. Raises ServiceError."""
        return self._tokenized([Segment(text, False)], caller)

    def tokenize_prompt(self, asked: Generation, caller: Caller) -> Tokenized:
        """Returns the tokens of a request's prompt. Raises ServiceError."""
        return self._tokenized(self.prompt(asked, caller), caller)

    def prompt(self, asked: Generation, caller: Caller) -> list[Segment]:
        """Returns a request's prompt, markers included. Raises ServiceError."""
        prompt_format = self._prompt_format(caller)
        return self._renderer(prompt_format, asked, caller.scope)(asked.messages)

    def unknown_arguments(self, asked: Generation, caller: Caller) -> list[str]:
        """Returns, and logs, the places of arguments that the model's template does not have.
        Raises ServiceError."""
        return self._unknown_arguments(asked, self._prompt_format(caller))

    def _unknown_arguments(self, asked: Generation, prompt_format: PromptFormat) -> list[str]:
        template = template_of(prompt_format)
        unknown = unknown_arguments(template, asked, strict=self._config.strict == "on")
        self.tell_ignored(unknown)
        return unknown

    def _prompt_format(self, caller: Caller) -> PromptFormat:
        """Returns the model's, once the engine is awake. Raises ServiceError."""
        with self._waiting.place(caller, self._enter(caller)) as place:
            found = self._supervisor.engine().prompt_format
        place.cancel()
        return found

    def _tokenized(self, segments: list[Segment], caller: Caller) -> Tokenized:
        command = Tokenize(0, segments, self._waiting.deadline(caller))
        return _expected(self._ask(command, caller), Tokenized)

    def detokenize(self, tokens: list[int], caller: Caller) -> str:
        """Returns the text of tokens, control tokens included. Raises ServiceError."""
        return _expected(self._ask(Detokenize(0, tokens), caller), Detokenized).text

    def check_model(self, name: str | None) -> None:
        """Raises UnknownModelError for a name other than this model's."""
        aliases = self._config.model_aliases
        names = (None, "", self.model, self._config.model_path.name, *aliases)
        if "*" not in aliases and name not in names:
            raise UnknownModelError(name or "", self.model)

    def sampling_values(self, wanted: Wanted) -> Values:
        """Returns the values that an answer is sampled with."""
        return wanted.values(self._supervisor.defaults())

    def tell_ignored(self, fields: Sequence[str]) -> None:
        """Logs each field without effect once a process, as its sender may not read answers."""
        for name in fields:
            if name not in self._told and len(self._told) < MOST_TOLD:
                self._told.add(name)
                log.info("requests have the field %s, which has no effect here", escaped(name))

    def _check_limits(self, asked: Generation) -> None:
        if asked.n > self._config.parallel:
            raise InvalidRequestError(
                f"n is {asked.n}; this server gives at most {self._config.parallel} answers to a "
                "request (LLM_PARALLEL).",
                "n",
            )

    def _room(self, asked: Generation, limit: int) -> int:
        """Returns the tokens that the prompt must leave for the answer."""
        if not asked.trims:
            return min(1, limit)
        return limit if asked.max_tokens else min(limit, self._config.context_size // ANSWER_SHARE)

    def _clamped(self, asked: Generation, limit: int, n_prompt: int) -> dict[str, int]:
        """Returns the length that an answer was limited to, if the request asked for more."""
        limit = min(limit, self._config.context_size - n_prompt)
        more = asked.max_tokens is not None and asked.max_tokens > limit
        return {asked.max_tokens_place: limit} if more else {}

    def forget(self, answer: str) -> None:
        """Has what is kept of an answer's conversation alone erased, by the answer's id."""
        self._supervisor.forget(answer)

    def _cache_use(self, asked: Generation, scope: str) -> CacheUse:
        """Returns who shares cells with the request, and what may be written of them."""
        shared = scope if self._config.caches_by_key else ""
        salt = asked.cache.salt and f"salt {asked.cache.salt}"
        owner = asked.cache.answer and owner_of(asked.cache.answer)
        scope = f"{shared}\0{salt}" if salt else shared
        return CacheUse(scope=scope, disk=asked.cache.disk, owner=owner)

    def _unkept(self, asked: Generation) -> list[str]:
        """Returns the field that wants the prompt kept for long, where there is no disk for it."""
        without = asked.cache.lasting and self._config.cache_dir is None
        return ["prompt_cache_retention"] if without else []

    def _renderer(
        self, prompt_format: PromptFormat, asked: Generation, scope: str
    ) -> Callable[[Sequence[Message]], list[Segment]]:
        """Returns a function that renders the prompt of those messages of a conversation that are
        kept. All of its messages determine the date. The function raises InvalidRequestError."""
        date = self._dates.date_for(asked.messages, self._today(), scope, noted=asked.cache.disk)
        tools = asked.offer.rendered or None

        def rendered(kept: Sequence[Message]) -> list[Segment]:
            if not kept:  # the request has prompts
                return []
            try:
                return render(
                    prompt_format,
                    kept,
                    date=date,
                    tools=tools,
                    continues=asked.continues,
                    arguments=asked.template_arguments,
                )
            except PromptError as error:
                raise InvalidRequestError(error.message, error.param) from None

        return rendered

    def _enter(self, caller: Caller) -> Ticket:
        return self._supervisor.enter(client=caller.client)

    def _ask(self, command: Tokenize | Detokenize, caller: Caller) -> RequestEvent:
        with self._waiting.place(caller, self._enter(caller)) as ticket:
            self._supervisor.submit(command, ticket=ticket)
            return self._waiting.first(ticket, caller)


def _expected(event: RequestEvent, kind: type[_Event]) -> _Event:
    """Returns the event, or raises ServiceError if the engine answered another question."""
    if isinstance(event, kind):
        return event
    raise EngineFailedError(
        f"The engine answered with {type(event).__name__} in the place of {kind.__name__}.",
        code="engine_error",
    )
