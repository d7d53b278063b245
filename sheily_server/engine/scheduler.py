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
    """A step: first `copies` (from slot, to slot, length) and then `cuts` (slot, length to keep)
    are made in the KV cache, then `work` is done.

    `started` are the sequences that left the queue with this step.
    """

    copies: list[tuple[int, int, int]]
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
        self._n_slots = n_slots
        self._cache = PrefixCache(n_slots)
        self._free = set(range(n_slots))
        self._waiting: deque[list[Sequence]] = deque()
        self._running: list[Sequence] = []
        self._chunk = chunk
        self._chunk_beside = chunk_beside

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    def sequences(self) -> list[Sequence]:
        """All that run or wait, running ones first."""
        return [*self._running, *(sequence for group in self._waiting for sequence in group)]

    def add(self, *group: Sequence) -> None:
        """Puts new sequences at the end of the queue: one, or several of one prompt, which start
        together and compute it once."""
        first, *others = group
        assert len(group) <= self._n_slots
        for sequence in group:
            assert sequence.prompt == first.prompt != []
            assert sequence.max_tokens >= 1
            assert sequence.slot is None
        for sequence in others:
            sequence.twin = first if len(first.prompt) > 1 else None  # there is nothing to share
        self._waiting.append(list(group))

    def remove(self, sequence: Sequence) -> None:
        """Takes a sequence out, finished or not; its slot is free for the next step, and the
        tokens in it stay as a prefix for others."""
        self._leave_twins(sequence)
        if sequence.slot is None:
            group = next(group for group in self._waiting if sequence in group)
            group.remove(sequence)
            if not group:
                self._waiting.remove(group)
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
        copies = [self._join_twin(s) for s in self._running if _may_join(s)]
        started: list[Sequence] = []
        cuts: list[tuple[int, int]] = []
        while self._waiting and len(self._waiting[0]) <= len(self._free):
            group = self._waiting.popleft()
            started += group
            cuts += [self._start(sequence) for sequence in group]
        decoding = [sequence for sequence in self._running if sequence.decoding]
        work = [self._work(sequence, 1) for sequence in decoding]
        budget = self._chunk_beside if decoding else self._chunk
        for sequence in self._running:
            if budget and not sequence.decoding and sequence.twin is None:
                work.append(self._work(sequence, budget))
                budget -= len(work[-1].tokens)
        return Plan(copies, cuts, work, started) if work else None

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
        if sequence.twin is not None:
            n_cached = 0
            sequence.twin_slot = sequence.twin.slot
        self._free.remove(slot)
        self._cache.take(slot, sequence.prompt[:n_cached])
        sequence.slot = slot
        sequence.n_computed = sequence.n_cached = n_cached
        self._running.append(sequence)
        return slot, n_cached

    def _join_twin(self, sequence: Sequence) -> tuple[int, int, int]:
        """Takes over the twin's cells, all but the last of the prompt, whose logits are wanted."""
        assert sequence.slot is not None
        assert sequence.twin_slot is not None
        length = len(sequence.prompt) - 1
        self._cache.take(sequence.slot, sequence.prompt[:length])
        sequence.n_computed = length
        sequence.twin = None
        return sequence.twin_slot, sequence.slot, length

    def _leave_twins(self, sequence: Sequence) -> None:
        """One that leaves before its prompt is computed hands the work to a sequence that waited
        for it."""
        heirs = [s for s in self.sequences() if s.twin is sequence and not _may_join(s)]
        for heir in heirs:
            heir.twin = None if heir is heirs[0] else heirs[0]
            heir.twin_slot = heirs[0].slot

    def _work(self, sequence: Sequence, limit: int) -> Work:
        assert sequence.slot is not None
        tokens = sequence.next_tokens(limit)
        samples = sequence.decoding or len(tokens) == sequence.n_prompt_left
        return Work(sequence, sequence.slot, tokens, samples)


def _may_join(sequence: Sequence) -> bool:
    """Whether the twin has computed what is to be shared."""
    twin = sequence.twin
    return twin is not None and twin.n_computed >= len(sequence.prompt) - 1
