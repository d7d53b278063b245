"""Which tokens of which sequences the next step computes; pure: no threads, clock or native code.

Three verbs: `schedule()` says what a step should compute, the caller computes it, `commit()` takes
what came out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Tokens
from dataclasses import dataclass

from .prefix_cache import PrefixCache
from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Work:
    """One sequence's share of a step; `samples` when its next token is wanted behind `tokens`."""

    sequence: Sequence
    slot: int
    tokens: list[int]
    samples: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A step: first `cuts` (slot, length to keep) are made in the KV cache, then `work` is done.

    `started` are the sequences that left the queue with this step.
    """

    cuts: list[tuple[int, int]]
    work: list[Work]
    started: list[Sequence]


class Scheduler:
    """Continuous batching over a fixed number of slots, each with room for a whole conversation.

    Running sequences get their token first; what is left of the step's budget goes to prompts in
    the order of their arrival. Beside running streams a step takes at most `chunk_beside` prompt
    tokens, so that a long prompt never stalls a stream; alone, `chunk`.
    """

    def __init__(self, n_slots: int, chunk: int = 128, chunk_beside: int = 32) -> None:
        assert n_slots >= 1
        assert chunk >= chunk_beside >= 1
        self._cache = PrefixCache(n_slots)
        self._free = set(range(n_slots))
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._chunk = chunk
        self._chunk_beside = chunk_beside

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    def sequences(self) -> list[Sequence]:
        """All that run or wait, running ones first."""
        return [*self._running, *self._waiting]

    def add(self, sequence: Sequence) -> None:
        """Puts a new sequence at the end of the queue."""
        assert sequence.prompt
        assert sequence.max_tokens >= 1
        assert sequence.slot is None
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Takes a sequence out, finished or not; its slot is free for the next step, and the
        tokens in it stay as a prefix for others."""
        if sequence.slot is None:
            self._waiting.remove(sequence)
        else:
            self._running.remove(sequence)
            self._free.add(sequence.slot)
            sequence.slot = None

    def drop_all(self) -> list[Sequence]:
        """Takes every sequence out and forgets what is cached, after a step that failed."""
        dropped = self.sequences()
        for sequence in dropped:
            self.remove(sequence)
        for slot in self._free:
            self._cache.forget(slot)
        return dropped

    def schedule(self) -> Plan | None:
        """The next step; None when there is nothing to compute."""
        started = [self._waiting.popleft() for _ in range(min(len(self._free), len(self._waiting)))]
        cuts = [self._start(sequence) for sequence in started]
        decoding = [sequence for sequence in self._running if sequence.decoding]
        work = [self._work(sequence, 1) for sequence in decoding]
        budget = self._chunk_beside if decoding else self._chunk
        for sequence in self._running:
            if budget and not sequence.decoding:
                work.append(self._work(sequence, budget))
                budget -= len(work[-1].tokens)
        return Plan(cuts, work, started) if work else None

    def commit(self, plan: Plan, sampled: Tokens[int | None]) -> list[tuple[Sequence, int]]:
        """Takes the token that each piece of work sampled; returns (sequence, token) pairs."""
        assert len(sampled) == len(plan.work)
        pairs: list[tuple[Sequence, int]] = []
        for work, token in zip(plan.work, sampled, strict=False):
            work.sequence.n_computed += len(work.tokens)
            self._cache.extend(work.slot, work.tokens)
            assert work.samples == (token is not None)
            if token is not None:
                work.sequence.generated.append(token)
                pairs.append((work.sequence, token))
        return pairs

    def _start(self, sequence: Sequence) -> tuple[int, int]:
        slot, n_cached = self._cache.best(sequence.prompt, self._free)
        self._free.remove(slot)
        self._cache.take(slot, sequence.prompt[:n_cached])
        sequence.slot = slot
        sequence.n_computed = sequence.n_cached = n_cached
        self._running.append(sequence)
        return slot, n_cached

    def _work(self, sequence: Sequence, limit: int) -> Work:
        assert sequence.slot is not None
        tokens = sequence.next_tokens(limit)
        samples = sequence.decoding or len(tokens) == sequence.n_prompt_left
        return Work(sequence, sequence.slot, tokens, samples)
