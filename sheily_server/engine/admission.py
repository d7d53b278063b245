"""Handles a command before the engine thread sees it: reads it, tries its grammar, and admits or
refuses it. An admitted request is certain to have room."""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import msgspec

from sheily_native import InvalidArgumentError, NativeError

from ..protocol.commands import (
    Detokenize,
    Grammar,
    Sampling,
    Segment,
    Start,
    Submit,
    Tokenize,
)
from ..protocol.events import (
    Admitted,
    Detokenized,
    Refused,
    RequestEvent,
    RequestFailed,
    Tokenized,
    TooLong,
)
from .biases import with_bias
from .grammar.compiler import Verdict
from .grammar.looser import looser
from .grammar.trials import Trials
from .kvcache.answer_ids import AnswerIds
from .lanes import Lanes
from .raw_prompts import BadPromptError, ReadPrompt, read_prompts
from .reading import SHORT, Reading, SliceTooLongError, TextTooLongError
from .scheduling.sequence import TokenSequence
from .tokenizer import Tokenizer

log = logging.getLogger(__name__)

MOST_TOKENIZED = 262_144
"""Maximum number of tokens in the answer to a Tokenize."""
MOST_PREDICTED = 262_144
TRIES = 2
"""Times that a grammar is relaxed by the parts to blame before all that may go does."""


@dataclass(slots=True, kw_only=True)
class Job:
    """An admitted request, with one sequence per choice. What a running sequence needs besides its
    prompt is created when it starts.

    `before` holds the ids in front of the segment that the answer continues. `visible` holds
    control tokens whose text is shown. `cost` is what trying the grammar found. `prediction` holds
    the ids of the text that the answer may repeat; None when nothing is drafted. `adds_bos` says of
    each prompt that no template made whether its first token is not in the request.
    """

    submit: Submit
    sequences: list[TokenSequence]
    visible: frozenset[int] = frozenset()
    before: Sequence[int] = ()
    cost: Verdict | None = None
    prediction: Sequence[int] | None = None
    adds_bos: Sequence[bool] = ()

    @property
    def id(self) -> int:
        return self.submit.id

    @property
    def firsts(self) -> list[TokenSequence]:
        """The first choice of each prompt."""
        return self.sequences[:: self.submit.n]

    def admitted(self, relaxed: Sequence[str] = ()) -> Admitted:
        lengths = [len(sequence.prompt) for sequence in self.firsts]
        return Admitted(
            self.id,
            sum(lengths),
            list(relaxed),
            max(lengths) if len(lengths) > 1 else None,
        )

    def n_hidden(self, choice: int) -> int:
        """Returns how many of the first tokens of a choice's prompt are not in the request."""
        prompt = choice // self.submit.n
        return int(prompt < len(self.adds_bos) and self.adds_bos[prompt])

    def sampling(self, choice: int) -> Sampling:
        """Returns the parameters of a choice, with its own seed derived from the request's; the
        same for each prompt."""
        sampling = self.submit.sampling
        choice %= self.submit.n
        if choice == 0 or sampling.seed is None:
            return sampling
        return msgspec.structs.replace(sampling, seed=sampling.seed + choice * 0x9E3779B97F4A7C15)


_Readings = Generator[Reading, None, None]
Answer = Callable[[RequestEvent, "Job | None"], None]
"""Takes the event to send, and the job to run if the command was admitted. On any thread."""


class Admission:
    """Decides on commands. Each running request has `context_size` cells, so a request that fits
    into that many is admitted. Thread-safe."""

    def __init__(
        self,
        *,
        tokenizer: Tokenizer,
        lanes: Lanes,
        trials: Trials,
        answers: AnswerIds,
        start: Start,
        answer: Answer,
    ) -> None:
        self._tokenizer = tokenizer
        self._lanes = lanes
        self._trials = trials
        self._answers = answers
        self._context_size = start.context_size
        self._speculation = start.speculation
        self._answer = answer
        self._lock = threading.Lock()
        self._open: set[int] = set()

    def take(self, command: Submit | Tokenize | Detokenize) -> None:
        """Answers a command, now or later, unless it is cancelled first."""
        with self._lock:
            self._open.add(command.id)
        if isinstance(command, Detokenize):
            self._detokenize(command)
        elif isinstance(command, Tokenize):
            self._lanes.read(_Text(self, command.id, self._tokenize(command)))
        else:
            n_bytes = sum(len(raw.text.encode()) for raw in command.prompts)
            self._lanes.read(_Text(self, command.id, self._admit(command), n_bytes))

    def cancel(self, id: int) -> bool:
        """Cancels a command; returns whether it had no answer yet."""
        with self._lock:
            known = id in self._open
            self._open.discard(id)
        if known:
            self._trials.forget(id)
        return known

    def is_open(self, id: int) -> bool:
        return id in self._open

    def failed(self, id: int, error: Exception) -> None:
        """Answers a command that could not be read."""
        if isinstance(error, InvalidArgumentError):
            self._end(Refused(id, "tokens", f"{error}."))
            return
        if isinstance(error, SliceTooLongError):
            self._end(Refused(id, error.param, f"{error}"))
            return
        if not isinstance(error, NativeError):
            log.error("a command failed", exc_info=error)
        self._end(RequestFailed(id, "engine_error", str(error) or type(error).__name__))

    def _detokenize(self, command: Detokenize) -> None:
        try:
            text = self._tokenizer.decode(command.tokens)
        except (InvalidArgumentError, NativeError) as error:
            self.failed(command.id, error)
        else:
            self._end(Detokenized(command.id, text))

    def _tokenize(self, command: Tokenize) -> _Readings:
        param = "messages" if any(segment.special for segment in command.segments) else "text"
        reading = Reading(self._tokenizer, command.segments, most=MOST_TOKENIZED, param=param)
        try:
            yield reading
        except TextTooLongError as error:
            sentence = f"It has at least {error.least} tokens; at most {MOST_TOKENIZED} are told."
            self._end(Refused(command.id, param, sentence))
            return
        tokens = reading.tokens
        self._end(Tokenized(command.id, tokens, [self._tokenizer.name(token) for token in tokens]))

    def _admit(self, submit: Submit) -> _Readings:
        most = self._context_size - submit.room
        if submit.prompts:
            try:
                prompts = yield from read_prompts(self._tokenizer, submit, most)
            except BadPromptError as error:
                self._end(error.event)
            else:
                yield from self._admit_read(submit, prompts)
            return
        reading = Reading(
            self._tokenizer,
            submit.segments,
            most=most,
            param="messages",
            answers=self._answers,
            scope=submit.scope,
        )
        try:
            yield reading
        except TextTooLongError as error:
            self._end(
                TooLong(
                    id=submit.id,
                    prompt_tokens=error.least,
                    room=submit.room,
                    at_least=not reading.at_end,
                )
            )
            return
        prompt = reading.tokens
        if len(prompt) > most:
            self._end(TooLong(id=submit.id, prompt_tokens=len(prompt), room=submit.room))
            return
        yield from self._admit_read(submit, [ReadPrompt(prompt, False)], reading.n_before_last)

    def _admit_read(
        self, submit: Submit, prompts: Sequence[ReadPrompt], n_before_last: int = 0
    ) -> _Readings:
        if not all(prompt.ids for prompt in prompts):
            place = "prompt" if submit.prompts else "messages"
            self._end(Refused(submit.id, place, "The prompt has no token."))
            return
        if submit.bias_texts:
            submit = yield from with_bias(self._tokenizer, submit)
        for token in submit.sampling.logit_bias.ids():
            if not 0 <= token < self._tokenizer.n_vocab:
                n_vocab = self._tokenizer.n_vocab
                message = f"{token} is not a token of this model, which has {n_vocab}."
                self._end(Refused(submit.id, "logit_bias", message))
                return
        job = self._job(submit, prompts, n_before_last)
        if self._speculation and submit.grammar is None and len(prompts) == 1:
            yield from self._predict(job, submit)
        self._try_grammar(job, submit)

    def _predict(self, job: Job, submit: Submit) -> _Readings:
        """Sets the job's prediction ids: those of an earlier answer here if it is one, else read
        anew."""
        text = submit.prediction
        ids: Sequence[int] = ()
        if text is not None and submit.segments:
            known, last = None, submit.segments[-1]
            if not last.special:
                known = self._answers.ids(submit.scope, job.before, last.text + text)
            if known is None:
                segments = [Segment(text, False)]
                reading = Reading(
                    self._tokenizer, segments, most=MOST_PREDICTED, param="prediction"
                )
                yield reading
                ids = reading.tokens
            else:
                ids = known[len(job.sequences[0].prompt) - len(job.before) :]
        job.prediction = array("i", ids)

    def _job(self, submit: Submit, prompts: Sequence[ReadPrompt], n_before_last: int) -> Job:
        controls = [self._tokenizer.control_token(text) for text in submit.visible]
        # Of a conversation's text, only the last segment is still needed.
        kept = msgspec.structs.replace(
            submit, segments=submit.segments[-1:], prompts=[], prediction=None
        )
        sequences = [
            TokenSequence(
                0,
                prompt.ids,
                min(self._context_size - len(prompt.ids), submit.max_tokens),
                held=not submit.max_tokens,
                scores=submit.scores,
                client=tuple(submit.client),
            )
            for prompt in prompts
            for _ in range(submit.n)
        ]
        return Job(
            submit=kept,
            sequences=sequences,
            visible=frozenset(token for token in controls if token is not None),
            before=array("i", prompts[0].ids[:n_before_last]),
            adds_bos=[prompt.adds_bos for prompt in prompts],
        )

    def _try_grammar(self, job: Job, submit: Submit) -> None:
        grammar = submit.grammar
        if grammar is None:
            self._end(job.admitted(), job)
            return

        self._try(job, grammar, TRIES)

    def _try(self, job: Job, grammar: Grammar, n_tries: int) -> None:
        """Has a grammar tried. One that cannot be honoured is tried again without the parts to
        blame, if it can do without them, and at last without all it can do without."""

        def done(verdict: Verdict | None) -> None:
            if verdict is None:
                message = "the process that compiles grammars ended"
                self._end(RequestFailed(job.id, "engine_error", message))
            elif verdict.failure is not None:
                message = f"the process that tried the grammar {verdict.failure}"
                self._end(RequestFailed(job.id, "engine_error", message))
            elif verdict.problem is not None:
                without = looser(grammar, verdict.faults if n_tries else ())
                if without is None:
                    message = f"{verdict.param} cannot be honoured: {verdict.problem}."
                    self._end(Refused(job.id, verdict.param, message))
                elif self.is_open(job.id):
                    self._try(job, without, n_tries - 1 if n_tries else 0)
            else:
                job.cost = verdict
                job.submit = msgspec.structs.replace(job.submit, grammar=grammar)
                for sequence in job.sequences:
                    sequence.held = True
                self._end(job.admitted(grammar.relaxed), job)

        self._trials.ask(job.id, grammar, job.submit.scope, done)

    def _end(self, event: RequestEvent, job: Job | None = None) -> None:
        with self._lock:
            if event.id not in self._open:
                return
            self._open.discard(event.id)
            # Under the lock, so that a Cancel that comes now is queued behind the job.
            self._answer(event, job)


class _Text:
    """A command as a text for lanes; `steps` yields one Reading after another. `n_bytes` is the
    size of all of them together, where that is known."""

    def __init__(self, admission: Admission, id: int, steps: _Readings, n_bytes: int = 0) -> None:
        self._admission = admission
        self._id = id
        self._steps = steps
        self._behind = n_bytes
        self._reading: Reading | None = None
        self._next()

    @property
    def bytes_left(self) -> int:
        return self._behind + (0 if self._reading is None else self._reading.bytes_left)

    @property
    def is_short(self) -> bool:
        return self._reading is None or (self._reading.is_short and self.bytes_left <= SHORT)

    @property
    def wanted(self) -> bool:
        return self._admission.is_open(self._id)

    def look(self) -> int | None:
        while self._reading is not None:
            try:
                n_bytes = self._reading.look()
            except TextTooLongError as error:
                self._throw(error)
                continue
            if n_bytes is not None:
                return n_bytes
            self._next()
        return None

    def advance(self) -> None:
        if self._reading is not None:
            try:
                self._reading.advance()
            except TextTooLongError as error:
                self._throw(error)

    def end(self, error: Exception | None) -> None:
        if error is not None:
            self._admission.failed(self._id, error)

    def _next(self) -> None:
        self._reading = next(self._steps, None)
        if self._reading is not None:
            self._behind = max(0, self._behind - self._reading.bytes_left)

    def _throw(self, error: TextTooLongError) -> None:
        """Lets the steps handle the error; most of them end with it."""
        self._reading = None
        try:
            self._reading = self._steps.throw(error)
        except StopIteration:
            self._reading = None
