"""What happens to a command before the engine thread sees it: tokenized, compiled, and admitted or
refused. For the reader thread; what is admitted has its place for sure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from sheily_native import InvalidArgumentError, NativeError

from .answers import Answers
from .constraint import Constraint, ConstraintError, Grammars
from .drafts import Drafter
from .messages import (
    Admitted,
    Detokenize,
    Detokenized,
    Refused,
    RequestEvent,
    RequestFailed,
    Sampling,
    Start,
    Submit,
    Tokenize,
    Tokenized,
    TooLong,
)
from .runner import Tokenizer
from .sequence import Sequence


@dataclass(slots=True)
class Job:
    """An admitted request: a sequence, and a constraint where it has a grammar, for each choice.

    Times are those of time.monotonic(). `visible` are control tokens whose text is to be shown.
    """

    submit: Submit
    sequences: list[Sequence]
    constraints: list[Constraint]
    visible: frozenset[int]
    arrived: float
    deadline: float

    @property
    def id(self) -> int:
        return self.submit.id

    def sampling(self, choice: int) -> Sampling:
        """The parameters of a choice: each has a seed of its own, made from the request's."""
        sampling = self.submit.sampling
        if choice == 0 or sampling.seed is None:
            return sampling
        return msgspec.structs.replace(sampling, seed=sampling.seed + choice * 0x9E3779B97F4A7C15)


class Admission:
    """Decides on commands. There are `context_size` cells for each request that runs, so one that
    fits into so many is admitted."""

    def __init__(
        self, tokenizer: Tokenizer, grammars: Grammars, answers: Answers, start: Start
    ) -> None:
        self._tokenizer = tokenizer
        self._grammars = grammars
        self._answers = answers
        self._context_size = start.context_size
        self._speculation = start.speculation

    def prepare(self) -> None:
        """Does in advance what the first request would wait for."""
        _ = self._tokenizer.ends  # asks for each token of the vocabulary, once
        self._grammars.prepare()

    def answer(
        self, command: Start | Submit | Tokenize | Detokenize
    ) -> tuple[RequestEvent, Job | None]:
        """The event to send, and the job to run where the command was admitted."""
        assert not isinstance(command, Start)
        try:
            if isinstance(command, Tokenize):
                return self._tokenize(command), None
            if isinstance(command, Detokenize):
                return Detokenized(command.id, self._tokenizer.decode(command.tokens)), None
            return self._admit(command)
        except InvalidArgumentError as error:
            return Refused(command.id, "tokens", f"{error}."), None
        except NativeError as error:
            return RequestFailed(command.id, "engine_error", str(error)), None

    def _tokenize(self, command: Tokenize) -> Tokenized:
        tokens = self._tokenizer.encode(command.segments)
        return Tokenized(command.id, tokens, [self._tokenizer.name(token) for token in tokens])

    def _admit(self, submit: Submit) -> tuple[RequestEvent, Job | None]:
        prompt = self._tokenizer.encode(submit.segments, self._answers.ids)
        room = self._context_size - len(prompt)
        wanted = 1 if submit.max_tokens is None else submit.max_tokens
        if room < wanted:
            return TooLong(submit.id, len(prompt), wanted), None
        for token in submit.sampling.logit_bias:
            if not 0 <= token < self._tokenizer.n_vocab:
                message = f"{token} is no token of this model, which has {self._tokenizer.n_vocab}."
                return Refused(submit.id, "logit_bias", message), None
        constraints: list[Constraint] = []
        if submit.grammar is not None:
            try:
                constraints = [self._grammars.compile(submit.grammar) for _ in range(submit.n)]
            except ConstraintError as error:
                message = f"The schema cannot be honoured: {error}."
                return Refused(submit.id, submit.grammar.param, message), None
        max_tokens = min(room, submit.max_tokens or submit.max_tokens_cap)
        controls = [self._tokenizer.control_token(text) for text in submit.visible]
        job = Job(
            submit,
            [
                Sequence(0, prompt, max_tokens, self._drafter(submit, prompt))
                for _ in range(submit.n)
            ],
            constraints,
            frozenset(token for token in controls if token is not None),
            submit.arrived,
            submit.deadline,
        )
        return Admitted(submit.id, len(prompt)), job

    def _drafter(self, submit: Submit, prompt: list[int]) -> Drafter | None:
        """None where a grammar masks every token: what it allows behind a draft is not known
        before."""
        if not self._speculation or submit.grammar is not None:
            return None
        return Drafter(prompt, self._prediction(submit), self._tokenizer.ends)

    def _prediction(self, submit: Submit) -> list[int]:
        """The ids of what the request predicts: those of an earlier answer, if it is one."""
        if submit.prediction is None:
            return []
        before = submit.segments[-1]
        if not before.special:
            ids = self._answers.ids(before.text + submit.prediction)
            if ids is not None:
                return ids[len(self._tokenizer.encode([before])) :]
        return self._tokenizer.encode_text(submit.prediction)
