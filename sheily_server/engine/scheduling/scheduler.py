"""Decides which tokens of which sequences the next step computes. Pure: no threads, clock or native
code.

`schedule()` plans a step, the caller computes it, and `commit()` takes the results.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..kvcache.prefix_tree import Operation, PrefixTree, common_prefix
from .drafts import MOST as MOST_DRAFTS
from .fairness import Fairness
from .pace import Pace
from .room import SLACK, Lengths, victim
from .sequence import TokenSequence

AT_FIRST = 4
"""Answers that run at once whatever their lengths, until it is known how long answers become."""
_LONG_S = 1e12
TOGETHER = 4
"""Most chunks of prompts that are computed before the first of them streams."""


@dataclass(slots=True, kw_only=True)
class Work:
    """One sequence's share of a step. `tokens` are computed. If `samples`, a token is sampled after
    them, and after each of `drafts` as long as those are right. `targets`, if there are any, are
    the prompt tokens that follow each of `tokens`, whose log-probabilities are wanted."""

    sequence: TokenSequence
    slot: int
    tokens: list[int]
    samples: bool
    drafts: list[int]
    targets: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """A step: `operations` are done first, in order, in the KV cache, then `work`, which may be
    empty when everything that starts is held.

    `started` are the sequences that left the queue for the first time with this step. `set_aside`
    are those that are back in it, each with the tokens that its cells had.
    """

    operations: list[Operation]
    work: list[Work]
    started: list[TokenSequence]
    set_aside: list[tuple[TokenSequence, list[int]]] = field(default_factory=list)


class Scheduler:
    """Continuous batching over `n_slots` running sequences and one pool of KV cells.

    A sequence starts when its prompt fits beside what runs, and when that makes no running answer
    miss its deadline. When there is no cell for the next token of each, the youngest sequence of
    the client that has most is set aside: its cells become a prefix like others, and it goes on
    when there is room again. The oldest never is, so all end.

    Every running stream gets a token in every step. Prompts and drafts share what else fits without
    making the step longer than streams may wait (`Pace`); drafts get half of it at most, so that a
    stream that repeats a text is not slowed down much more than others. Without streams, a step
    takes `chunk` prompt tokens.

    Short prompts that arrive together start streaming together. Before the first stream, up to
    `TOGETHER` chunks of prompts are computed whole, since that would take longer beside a stream;
    then all streams continue in one step.

    The client that had least lately starts next (`Fairness`), and its prompts are computed first.
    Of them the one with the least left goes first, but each second that a prompt has waited counts
    as a second of computing it. So the longest is delayed by no more than its own length. Prompts
    with a common beginning wait for the first of them to compute it, and share it.

    Time is the sum of the seconds that steps took.
    """

    def __init__(
        self,
        *,
        n_slots: int,
        context_size: int,
        n_sequences: int,
        n_cells: int | None = None,
        chunk: int = 128,
        stream_slowdown: float = 2.0,
    ) -> None:
        """The pool holds `n_cells`, at least context_size; by default as many as all slots together
        can use. `n_sequences`, at least n_slots, is how many sequence numbers its content may have.
        A step beside streams is expected to take at most
        `stream_slowdown` times as long as one without prompts and drafts."""
        if not 1 <= n_slots <= n_sequences:
            raise ValueError("there are fewer numbers than slots, or no slot")
        if chunk < 1:
            raise ValueError("a step takes one token of a prompt at least")
        self._n_slots = n_slots
        self._context_size = context_size
        self._chunk = chunk
        self._n_cells = n_slots * context_size if n_cells is None else n_cells
        if self._n_cells < context_size:
            raise ValueError("the pool has less room than one context")
        self._tree = PrefixTree(self._n_cells, n_sequences)
        self._lengths = Lengths()
        self._n_added = 0
        self._pace = Pace(chunk, stream_slowdown)
        self._fairness = Fairness()
        self._waiting: list[TokenSequence] = []
        self._running: list[TokenSequence] = []
        self._now = 0.0

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    @property
    def n_slots(self) -> int:
        return self._n_slots

    @property
    def n_cells(self) -> int:
        """Total number of KV cells."""
        return self._n_cells

    @property
    def n_cells_free(self) -> int:
        """Number of empty KV cells."""
        return self._tree.n_free

    @property
    def n_cells_cached(self) -> int:
        """Number of KV cells whose tokens no running sequence has; freed when room is needed."""
        return self._tree.n_cached

    @property
    def streaming(self) -> bool:
        """Whether an answer gets tokens."""
        return any(each.decoding and not each.held for each in self._running)

    @property
    def prompt_token_s(self) -> float:
        """Seconds that a prompt's token takes, as measured."""
        return self._pace.prompt_token_s

    @property
    def on_evict(self) -> Callable[[bytes, int, list[int], int], None] | None:
        """As `PrefixTree.on_evict`."""
        return self._tree.on_evict

    @on_evict.setter
    def on_evict(self, tell: Callable[[bytes, int, list[int], int], None]) -> None:
        self._tree.on_evict = tell

    def match(self, sequence: TokenSequence) -> int:
        """Returns how many tokens of a prompt are in the KV cache, of those that may be shared."""
        return min(self._tree.match(sequence.prefix, sequence.root), sequence.n_shared)

    def holder(self, root: bytes, tokens: Sequence[int]) -> int | None:
        """Returns a native sequence that has the cells of all the tokens; None if none has."""
        return self._tree.holder(tokens, root)

    def take_operations(self) -> list[Operation]:
        """Returns what is to be done in the KV cache before anything else."""
        return self._tree.take_operations()

    def make_room(self, sequence: TokenSequence, n_cells: int) -> list[Operation] | None:
        """Makes room for cells of a running sequence that come from elsewhere, and gives it first
        what others have computed meanwhile. Returns what is to be done in the KV cache then; None
        if there is no room."""
        self._join(sequence)
        if self._n_available < n_cells:
            return None
        self._tree.reserve(n_cells)
        return self._tree.take_operations()

    def loaded(self, sequence: TokenSequence, end: int) -> None:
        """Records that a running sequence has the cells of its prompt up to `end`, which came from
        elsewhere. They may be shared at once."""
        assert sequence.slot is not None
        tokens = sequence.prefix[sequence.n_computed : end]
        self._tree.extend(sequence.slot, tokens)
        sequence.n_computed = end
        sequence.n_cached += len(tokens)
        sequence.n_from_disk += len(tokens)

    def add(self, *sequences: TokenSequence) -> None:
        """Queues new sequences. Raises ValueError for one that cannot run."""
        for sequence in sequences:
            room = self._context_size - len(sequence.prompt)
            least = 0 if sequence.scores and sequence.held else 1
            if not sequence.prompt or not least <= sequence.max_tokens <= room:
                raise ValueError("a sequence that does not fit into the context")
            if sequence.slot is not None:
                raise ValueError("a sequence that runs already")
            sequence.arrived = self._now
            self._n_added += 1
            sequence.order = self._n_added
            self._waiting.append(sequence)

    def remove(self, sequence: TokenSequence) -> list[int]:
        """Removes a sequence, finished or not; what it computed stays as a prefix for others.
        Returns the tokens of that. Does nothing if it is already removed."""
        if sequence.slot is None:
            self._waiting = [other for other in self._waiting if other is not sequence]
            return []
        if sequence.generated:
            self._lengths.add(len(sequence.generated))
        return self._leave(sequence)

    def _leave(self, sequence: TokenSequence) -> list[int]:
        """Gives up a sequence's slot; its cells stay as a prefix. Returns their tokens."""
        assert sequence.slot is not None
        self._running.remove(sequence)
        computed = (sequence.prompt + sequence.generated)[: sequence.n_computed]
        self._tree.finish(sequence.slot, computed[sequence.n_shared :])
        sequence.slot = None
        return computed

    def drop_all(self) -> None:
        """Removes every sequence and forgets what is cached, after a step that failed."""
        for sequence in self._running:
            sequence.slot = None
        self._waiting.clear()
        self._running.clear()
        self._tree.reset()

    def schedule(self, now: float = 0.0) -> Plan | None:
        """Returns the next step; None when there is nothing to compute. `now` is in the seconds of
        the deadlines."""
        started = self._start(now)
        streams, prompts, set_aside = self._fitting()
        started = [each for each in started if each.slot is not None]
        for sequence in started:
            sequence.begun = True
        further = self._pace.allowed(len(streams)) if streams else self._chunk
        further = min(further, self._n_available - len(streams))
        if prompts:
            n_drafts = min(further // 2, MOST_DRAFTS)
        else:
            n_drafts = MOST_DRAFTS if len(streams) == 1 else min(further, MOST_DRAFTS)
        work = self._decode(streams, n_drafts)
        n_drafts = sum(len(one.drafts) for one in work)
        work += self._prefill(
            prompts, further - n_drafts, together=not streams, n_targets=MOST_DRAFTS - n_drafts
        )
        if not work and not started and not set_aside:
            return None
        self._tree.reserve(sum(len(one.tokens) + len(one.drafts) for one in work))
        return Plan(self._tree.take_operations(), work, started, set_aside)

    def commit(self, plan: Plan, sampled: Sequence[Sequence[int]], seconds: float) -> None:
        """Takes the tokens that each piece of work sampled, and how long the step took. Raises
        ValueError, and takes nothing, when tokens are missing or unexpected."""
        if [work.samples for work in plan.work] != [bool(tokens) for tokens in sampled]:
            raise ValueError("tokens that are not those of the plan")
        n_streams = n_further = 0
        for work, tokens in zip(plan.work, sampled, strict=True):
            n_streams += work.sequence.decoding
            n_further += len(work.tokens) + len(work.drafts) - work.sequence.decoding
            self._commit(work, tokens)
        self._pace.learn(n_streams, n_further, seconds)
        self._now += seconds

    def _start(self, now: float) -> list[TokenSequence]:
        """Starts what has room, in order. Returns what runs for the first time."""
        started: list[TokenSequence] = []
        while self._waiting and len(self._running) < self._n_slots:
            sequence = self._fairness.next(self._waiting, self._running, self._urgency, self._now)
            if self._running and not (self._fits(sequence) and self._in_time(now)):
                break
            self._waiting.remove(sequence)
            sequence.slot = self._tree.begin(sequence.root)
            self._running.append(sequence)
            if not sequence.begun:
                started.append(sequence)
        return started

    def _fits(self, sequence: TokenSequence) -> bool:
        """Whether a sequence's prefix has room beside what runs, the prefixes of which may not be
        computed yet."""
        owed = sum(each.n_prompt_left + SLACK for each in self._running)
        wanted = len(sequence.prefix) - self.match(sequence) + SLACK
        return self._tree.n_running + owed + wanted <= self._n_cells

    def _in_time(self, now: float) -> bool:
        """Whether all running answers would still end before their deadlines beside another one.
        Those that would not even alone do not count. Until it is known how long answers become, a
        few run however long they may be."""
        n = len(self._running)
        if n < AT_FIRST and not self._lengths.known:
            return True
        with_it, alone = self._pace.ordinary(n + 1), self._pace.ordinary(1)
        for each in self._running:
            left, time_left = self._lengths.left(each), each.deadline - now
            if left * with_it > time_left >= left * alone:
                return False
        return True

    @property
    def _n_available(self) -> int:
        """Cells that are free, or only hold a prefix."""
        return self._tree.n_free + self._tree.n_cached

    def _fitting(
        self,
    ) -> tuple[list[TokenSequence], list[TokenSequence], list[tuple[TokenSequence, list[int]]]]:
        """Returns the streams, the prompts in order, and what was set aside so that each stream has
        a cell for its next token, or a prompt has one."""
        set_aside: list[tuple[TokenSequence, list[int]]] = []
        while True:
            for sequence in self._running:
                if not sequence.decoding and not sequence.loading:
                    self._join(sequence)
            streams = [each for each in self._running if each.decoding and not each.held]
            prompts = [
                each
                for each in self._running
                if not each.decoding and not each.loading and _n_to_compute(each)
            ]
            chosen = None
            if self._n_available < max(len(streams), min(len(prompts), 1)):
                chosen = victim(self._running)
            if chosen is None:
                return streams, self._in_order(prompts), set_aside
            set_aside.append((chosen, self._set_aside(chosen)))

    def _in_order(self, prompts: list[TokenSequence]) -> list[TokenSequence]:
        """Returns prompts by what their clients had, least first, and then the most urgent first:
        one client's many short prompts do not go before another's long one."""
        had = {each.client: self._fairness.had(each.client, self._now) for each in prompts}
        return sorted(prompts, key=lambda each: (had[each.client], self._urgency(each)))

    def _set_aside(self, sequence: TokenSequence) -> list[int]:
        """Puts a running sequence back into the queue. Returns the tokens that its cells had."""
        computed = self._leave(sequence)
        if sequence.generated:
            sequence.replayed = (sequence.prompt + sequence.generated)[:-1]
        sequence.n_computed = 0
        sequence.preempted += 1
        self._waiting.append(sequence)
        return computed

    def _urgency(self, sequence: TokenSequence) -> float:
        """Returns the seconds that its prompt still takes, minus those it has waited; least first.
        What was set aside goes before what never ran, in the order in which it came."""
        if sequence.preempted and sequence.slot is None:
            return sequence.order - _LONG_S
        n_left = sequence.n_prompt_left
        if sequence.slot is None:
            n_left -= self.match(sequence)
        return n_left * self._pace.prompt_token_s - (self._now - sequence.arrived)

    def _decode(self, streams: list[TokenSequence], n_drafts: int) -> list[Work]:
        """Returns the streams' work, with up to `n_drafts` drafts in all, shared out evenly."""
        work: list[Work] = []
        cost = functools.partial(self._pace.cost, len(streams))
        for i, sequence in enumerate(streams):
            assert sequence.slot is not None
            drafts: list[int] = []
            if sequence.drafter is not None:
                share = n_drafts // (len(streams) - i)
                left = sequence.max_tokens - len(sequence.generated) - 1
                drafts = sequence.drafter.propose(min(share, left), cost, len(streams))
                n_drafts -= len(drafts)
            work.append(
                Work(
                    sequence=sequence,
                    slot=sequence.slot,
                    tokens=sequence.generated[-1:],
                    samples=True,
                    drafts=drafts,
                )
            )
        return work

    def _prefill(
        self, prompts: list[TokenSequence], n_tokens: int, together: bool, n_targets: int
    ) -> list[Work]:
        """Returns work on prompts, in order, with up to `n_tokens` tokens in all, of which up to
        `n_targets` give a log-probability.

        With `together`, short prompts wait for each other before their last token.
        """
        n_left = sum(sequence.n_prompt_left for sequence in prompts)
        chosen: list[Work] = []
        for sequence in prompts:
            assert sequence.slot is not None
            shared = sequence.prefix[: sequence.n_shared]
            leaders = [
                (work, n)
                for work in chosen
                if work.sequence.root == sequence.root
                and (n := _n_common(work.sequence, shared)) > sequence.n_computed
            ]
            n_tokens += sum(_cut(work, n) for work, n in leaders)
            if leaders or not n_tokens:
                continue
            n = min(n_tokens, _n_to_compute(sequence))
            if not sequence.scored:
                n = min(n, sequence.n_prompt_left - 1, n_targets)
                n_targets -= n
            if not n:  # held, and its last token is all that is left; or no target is left
                continue
            begin, end = sequence.n_computed, sequence.n_computed + n
            chosen.append(
                Work(
                    sequence=sequence,
                    slot=sequence.slot,
                    tokens=sequence.prefix[begin:end],
                    samples=n == sequence.n_prompt_left and sequence.replayed is None,
                    drafts=[],
                    targets=[] if sequence.scored else sequence.prompt[begin + 1 : end + 1],
                )
            )
            n_tokens -= n
        n_free = sum(not sequence.held for sequence in prompts)
        some_are_behind = sum(work.samples for work in chosen) < n_free
        if together and some_are_behind and n_left <= TOGETHER * self._chunk:
            return _without_last_tokens(chosen) or chosen
        return chosen

    def _join(self, sequence: TokenSequence) -> None:
        """Takes over what others have computed of a prompt."""
        if sequence.n_computed < sequence.n_shared:
            assert sequence.slot is not None
            n = self._tree.join(sequence.slot, sequence.prefix[: sequence.n_shared])
            if not sequence.preempted:
                sequence.n_cached += n - sequence.n_computed
            sequence.n_computed = n

    def _commit(self, work: Work, tokens: Sequence[int]) -> None:
        sequence = work.sequence
        n_accepted = max(len(tokens) - 1, 0)
        n_for_others = max(min(len(work.tokens), sequence.n_shared - sequence.n_computed), 0)
        self._tree.extend(work.slot, work.tokens[:n_for_others])
        self._tree.grow(work.slot, len(work.tokens) - n_for_others + n_accepted)
        sequence.n_computed += len(work.tokens) + n_accepted
        self._fairness.charge(sequence.client, len(work.tokens) + n_accepted, self._now)
        if tokens:
            sequence.generated += tokens
            if sequence.drafter is not None:
                sequence.drafter.take(tokens)


def _n_to_compute(sequence: TokenSequence) -> int:
    """Returns how many prompt tokens can be computed now. A held sequence leaves out the last one,
    after which a token is sampled."""
    return sequence.n_prompt_left - (sequence.held and sequence.replayed is None)


def _n_common(sequence: TokenSequence, shared: Sequence[int]) -> int:
    """Returns how many shareable tokens two prompts begin with in common. If the second has
    computed fewer than that, the first is computing what comes next in both, and leads."""
    return common_prefix(sequence.prefix[: sequence.n_shared], shared)


def _without_last_tokens(chosen: list[Work]) -> list[Work]:
    """Returns the work without the tokens after which something would be sampled."""
    held = [
        replace(one, tokens=one.tokens[: len(one.tokens) - one.samples], samples=False)
        for one in chosen
    ]
    return [one for one in held if one.tokens]


def _cut(work: Work, n_common: int) -> int:
    """Ends a prompt's work where a prompt that waits for it diverges, so that both are computed in
    one step from there on. Returns by how many tokens it is shorter."""
    n = len(work.tokens)
    n_left = n_common - work.sequence.n_computed
    if 0 < n_left < n:
        del work.tokens[n_left:]
        work.samples = False
    return n - len(work.tokens)
