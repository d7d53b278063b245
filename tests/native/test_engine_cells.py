"""The engine's scheduler on a real KV cache: what conversations share is as good as their own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sheily_native import Context, Entry, Model
from sheily_server.engine.runner import Runner
from sheily_server.engine.scheduling.drafts import Drafter, Index
from sheily_server.engine.scheduling.scheduler import Scheduler
from sheily_server.engine.scheduling.sequence import TokenSequence
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.protocol.commands import Sampling

N_CONVERSATIONS = 500
N_SLOTS = 8
CONTEXT = 160
TOLERANCE = 0.05
"""Log-probabilities, which add the errors of 128,256 logits (0.02 each, docs/architecture.md)."""


@dataclass(eq=False)
class Turn:
    """A sequence with the log-probabilities that the engine gave its tokens."""

    sequence: TokenSequence
    logprobs: list[float] = field(default_factory=list)

    @property
    def text(self) -> list[int]:
        return self.sequence.prompt + self.sequence.generated


class Traffic:
    """Conversations that begin anew, or with a common system prompt, or go on from another."""

    def __init__(self, n_vocab: int) -> None:
        self._random = random.Random(7)
        self._n_vocab = n_vocab
        self._systems = [self._tokens(40) for _ in range(3)]
        self.n = 0

    def next(self, finished: list[Turn]) -> TokenSequence:
        self.n += 1
        kind = self._random.random()
        prompt = self._tokens(self._random.randint(1, 12))
        if kind < 0.4:
            prompt = self._random.choice(self._systems) + prompt
        elif kind < 0.7 and finished:
            before = self._random.choice(finished[-40:]).text
            prompt = before[: self._random.randint(1, min(len(before), 130))] + prompt
        n_tokens = self._random.randint(1, 10)
        prediction: list[int] = []
        if kind > 0.8 and finished:  # the same again, whose answer is known by half
            before_it = self._random.choice(finished[-40:]).sequence
            prompt, n_tokens = before_it.prompt, before_it.max_tokens
            prediction = before_it.generated[:4] + self._tokens(4)
        return TokenSequence(
            self.n, prompt, n_tokens, drafter=Drafter(Index(prompt), Index(prediction), ())
        )

    def sampling(self) -> Sampling:
        greedy = self._random.random() < 0.7
        return Sampling(temperature=0.0 if greedy else 1.0, seed=self.n)

    def _tokens(self, n: int) -> list[int]:
        return [self._random.randrange(1000, self._n_vocab - 1000) for _ in range(n)]


def test_500_interleaved_conversations_have_the_logits_of_fresh_runs(tiny: Model) -> None:
    runner = Runner(
        tiny,
        Tokenizer(tiny),
        n_slots=N_SLOTS,
        n_cells=N_SLOTS * CONTEXT,
        n_threads=1,
        chunk=48,
    )
    scheduler = Scheduler(
        n_slots=N_SLOTS, context_size=CONTEXT, n_sequences=runner.n_sequences, chunk=48
    )
    traffic = Traffic(tiny.info.n_vocab)
    running: dict[int, Turn] = {}
    finished: list[Turn] = []
    n_drafted = n_accepted = 0
    while len(finished) < N_CONVERSATIONS:
        while traffic.n < N_CONVERSATIONS and len(running) < N_SLOTS + 4:
            sequence = traffic.next(finished)
            running[sequence.id] = Turn(sequence)
            runner.start(
                sequence.id,
                sampling=traffic.sampling(),
                prompt=sequence.prompt,
                follower=None,
                top_logprobs=0,
            )
            scheduler.add(sequence)
        plan = scheduler.schedule()
        assert plan is not None
        outputs = runner.step(plan)
        tokens = [[output.token for output in some] for some in outputs]
        scheduler.commit(plan, tokens, 0.01)  # whatever is in it: drafts cost nothing
        for work, some in zip(plan.work, outputs, strict=True):
            turn = running[work.sequence.id]
            n_drafted += len(work.drafts)
            n_accepted += max(len(some) - 1, 0)
            turn.logprobs += [o.logprob.logprob for o in some if o.logprob is not None]
            if len(work.sequence.generated) == work.sequence.max_tokens:
                scheduler.remove(work.sequence)
                runner.end(work.sequence.id)
                finished.append(running.pop(work.sequence.id))
    assert scheduler.idle

    n_cached = sum(turn.sequence.n_cached for turn in finished)
    assert n_cached > 5000  # so that there was something to get wrong
    assert min(n_accepted, n_drafted - n_accepted) > 20

    worst = 0.0
    with Context(tiny, n_ctx=CONTEXT, n_threads=1) as context:
        for turn in finished:
            assert len(turn.logprobs) == len(turn.sequence.generated)
            fresh = fresh_logprobs(context, turn.sequence.prompt, turn.sequence.generated)
            worst = max(worst, float(np.abs(np.array(turn.logprobs) - fresh).max()))
        other = fresh_logprobs(context, finished[0].sequence.prompt, finished[1].text[-5:])
        own = fresh_logprobs(context, finished[1].sequence.prompt, finished[1].text[-5:])
    assert worst < TOLERANCE
    assert np.abs(other - own).max() > 5 * TOLERANCE  # another's cells would be seen


def fresh_logprobs(context: Context, prompt: Sequence[int], answer: Sequence[int]) -> np.ndarray:
    """What a context that has seen nothing else gives each token of an answer."""
    context.clear()
    given = list(prompt)
    found = []
    for token in answer:
        context.step([Entry(0, given, logits=True)])
        logits = context.logits(0).astype(np.float64)
        found.append(logits[token] - np.logaddexp.reduce(logits))
        given = [token]
    return np.array(found)
