"""A request in the engine thread: its choices, its times, and the events that tell of its prompts
and of its end. Knows nothing of steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..protocol.events import Finished, Prompted, PromptToken
from .admission import Job
from .choice import Choice
from .runner import Output
from .tokenizer import Tokenizer


@dataclass(slots=True)
class Running:
    """A request at work. Times are those of time.monotonic().

    `open` are its choices without an end, by their sequences. `later` are those of them that the
    scheduler does not have yet: a request gets as many slots as there are, and others come before
    its further choices.
    """

    job: Job
    open: dict[int, Choice]
    later: deque[Choice] = field(default_factory=deque)
    started: float = 0.0
    first_token: float = 0.0
    completion_tokens: int = 0
    choices: list[Choice] = field(default_factory=list)

    @property
    def scored(self) -> bool:
        """Whether the log-probabilities of all prompts are there, where they are wanted."""
        return all(choice.sequence.scored for choice in self.open.values())

    def next(self, n_slots: int) -> Iterator[Choice]:
        """Takes the choices from `later` for which there are slots."""
        while self.later and len(self.open) - len(self.later) < n_slots:
            yield self.later.popleft()

    def echo(self, choice: Choice, tokenizer: Tokenizer) -> list[Prompted]:
        """Tells the prompt of a choice, where that is wanted; of a prompt that is scored only the
        first token, which has no log-probability. The others follow with theirs."""
        if not self.job.submit.echo:
            return []
        end = 1 if choice.sequence.scores else None
        ids = choice.sequence.prompt[self.job.n_hidden(choice.index) : end]
        tokens = [PromptToken(tokenizer.name(token)) for token in ids]
        return [Prompted(self.job.id, choice.index, tokens)] if tokens else []

    def scores(self, choice: Choice, outputs: Sequence[Output]) -> Prompted:
        """Tells the next tokens of a prompt with their log-probabilities."""
        found = [output.logprob for output in outputs if output.logprob is not None]
        tokens = [PromptToken(one.piece, one.logprob, one.top) for one in found]
        return Prompted(self.job.id, choice.index, tokens)

    def finished(self, now: float) -> Finished:
        """Returns the last event."""
        firsts = self.job.firsts
        drafts = [choice.drafts for choice in self.choices]
        n_accepted_predicted = sum(one.n_accepted_predicted for one in drafts)
        return Finished(
            id=self.job.id,
            prompt_tokens=sum(len(first.prompt) for first in firsts),
            cached_tokens=sum(first.n_cached for first in firsts),
            preempted=sum(choice.sequence.preempted for choice in self.choices),
            disk_tokens=sum(first.n_from_disk for first in firsts),
            completion_tokens=self.completion_tokens,
            queued_s=self.started - self.job.submit.arrived,
            prefill_s=self.first_token - self.started,
            decode_s=now - self.first_token,
            drafted_tokens=sum(one.n for one in drafts),
            accepted_tokens=sum(one.n_accepted for one in drafts),
            accepted_prediction_tokens=n_accepted_predicted,
            rejected_prediction_tokens=sum(one.n_predicted for one in drafts)
            - n_accepted_predicted,
        )
