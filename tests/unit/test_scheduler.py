"""The scheduler under a fake model: nothing lost, nothing computed twice, budgets kept."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sheily_server.engine.prefix_cache import PrefixCache, common_prefix
from sheily_server.engine.scheduler import Plan, Scheduler
from sheily_server.engine.sequence import Sequence

CHUNK, CHUNK_BESIDE = 8, 3


class FakeModel:
    """A KV cache of plain lists; its next token is a function of everything before it."""

    def __init__(self, n_slots: int) -> None:
        self.cells: list[list[int]] = [[] for _ in range(n_slots)]

    def step(self, plan: Plan) -> list[int | None]:
        for source, target, length in plan.copies:
            assert length <= len(self.cells[source])
            self.cells[target] = self.cells[source][:length]
        for slot, length in plan.cuts:
            assert length <= len(self.cells[slot])
            del self.cells[slot][length:]
        for work in plan.work:
            self.cells[work.slot] += work.tokens
        return [self.next(self.cells[w.slot]) if w.samples else None for w in plan.work]

    @staticmethod
    def next(tokens: list[int]) -> int:
        return (sum(tokens) * 31 + len(tokens)) % 97


def expected(prompt: list[int], n: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(FakeModel.next(tokens))
    return tokens[len(prompt) :]


def run_to_end(scheduler: Scheduler, model: FakeModel) -> list[Sequence]:
    """Steps until idle, as the engine does; the sequences in the order they finished."""
    finished: list[Sequence] = []
    for _ in range(10_000):
        plan = scheduler.schedule()
        if plan is None:
            return finished
        for sequence, _token in scheduler.commit(plan, model.step(plan)):
            if len(sequence.generated) == sequence.max_tokens:
                scheduler.remove(sequence)
                finished.append(sequence)
    raise AssertionError("the scheduler never came to an end")


prompts = st.lists(st.integers(0, 3), min_size=1, max_size=30)


@given(
    requests=st.lists(st.tuples(prompts, st.integers(1, 6)), min_size=1, max_size=12),
    n_slots=st.integers(1, 4),
)
def test_every_request_gets_the_tokens_it_would_get_alone(
    requests: list[tuple[list[int], int]], n_slots: int
) -> None:
    scheduler, model = Scheduler(n_slots, CHUNK, CHUNK_BESIDE), FakeModel(n_slots)
    for i, (prompt, n) in enumerate(requests):
        scheduler.add(Sequence(i, prompt, n))
    finished = run_to_end(scheduler, model)
    assert sorted(sequence.id for sequence in finished) == list(range(len(requests)))
    for sequence in finished:
        prompt, n = requests[sequence.id]
        assert sequence.generated == expected(prompt, n)


def test_the_next_turn_of_a_conversation_computes_only_what_is_new() -> None:
    scheduler, model = Scheduler(2, CHUNK, CHUNK_BESIDE), FakeModel(2)
    first = Sequence(0, [1, 2, 3, 4, 5], 4)
    scheduler.add(first)
    run_to_end(scheduler, model)
    known = first.prompt + first.generated[:-1]  # the last token was sampled, never computed
    second = Sequence(1, [*known, 9, 9], 2)
    scheduler.add(second)
    run_to_end(scheduler, model)
    assert second.n_cached == len(known)
    assert second.generated == expected(second.prompt, 2)


def test_a_repeated_prompt_computes_its_last_token_again() -> None:
    scheduler, model = Scheduler(1, CHUNK, CHUNK_BESIDE), FakeModel(1)
    for i in range(2):
        scheduler.add(Sequence(i, [5, 6, 7], 1))
    finished = run_to_end(scheduler, model)
    assert [sequence.n_cached for sequence in finished] == [0, 2]
    assert finished[0].generated == finished[1].generated


def test_a_new_conversation_leaves_the_most_recent_one_cached() -> None:
    scheduler, model = Scheduler(2, CHUNK, CHUNK_BESIDE), FakeModel(2)
    old, recent, new = [1] * 5, [2] * 5, [3] * 5
    for i, prompt in enumerate((old, recent, new)):
        scheduler.add(Sequence(i, prompt, 1))
        run_to_end(scheduler, model)
    again = Sequence(9, recent, 1)
    scheduler.add(again)
    run_to_end(scheduler, model)
    assert again.n_cached == len(recent) - 1


def test_a_long_prompt_goes_in_small_chunks_beside_a_stream() -> None:
    scheduler, model = Scheduler(2, CHUNK, CHUNK_BESIDE), FakeModel(2)
    stream = Sequence(0, [1], 50)
    scheduler.add(stream)
    first = scheduler.schedule()
    assert first is not None
    scheduler.commit(first, model.step(first))
    scheduler.add(Sequence(1, [2] * 20, 1))
    plan = scheduler.schedule()
    assert plan is not None
    assert [len(work.tokens) for work in plan.work] == [1, CHUNK_BESIDE]
    assert plan.work[0].sequence is stream
    assert [work.samples for work in plan.work] == [True, False]


def test_requests_beyond_the_slots_wait_in_order() -> None:
    scheduler = Scheduler(1, CHUNK, CHUNK_BESIDE)
    for i in range(3):
        scheduler.add(Sequence(i, [i], 1))
    finished = run_to_end(scheduler, FakeModel(1))
    assert [sequence.id for sequence in finished] == [0, 1, 2]


@given(
    prompt=prompts,
    n_tokens=st.integers(1, 4),
    n=st.integers(1, 4),
    before=st.lists(prompts, max_size=3),
)
def test_twins_compute_their_prompt_once(
    prompt: list[int], n_tokens: int, n: int, before: list[list[int]]
) -> None:
    scheduler, model = Scheduler(4, CHUNK, CHUNK_BESIDE), FakeModel(4)
    for other in before:
        scheduler.add(Sequence(99, other, 2))
    group = [Sequence(i, prompt, n_tokens) for i in range(n)]
    scheduler.add(*group)
    n_computed = 0
    while not scheduler.idle:
        plan = scheduler.schedule()
        assert plan is not None
        n_computed += sum(
            len(w.tokens) for w in plan.work if w.sequence in group and not w.sequence.generated
        )
        for sequence, _token in scheduler.commit(plan, model.step(plan)):
            if len(sequence.generated) == sequence.max_tokens:
                scheduler.remove(sequence)
    for sequence in group:
        assert sequence.generated == expected(prompt, n_tokens)
    assert n_computed <= len(prompt) + n - 1


def test_a_group_waits_for_as_many_slots_as_it_needs() -> None:
    scheduler, model = Scheduler(2, CHUNK, CHUNK_BESIDE), FakeModel(2)
    scheduler.add(Sequence(0, [1], 3))
    scheduler.add(Sequence(1, [2, 3], 1), Sequence(2, [2, 3], 1))
    scheduler.add(Sequence(3, [4], 1))
    assert [sequence.id for sequence in run_to_end(scheduler, model)] == [0, 1, 2, 3]


def test_after_a_failed_step_nothing_is_taken_from_the_cache() -> None:
    scheduler, model = Scheduler(1, CHUNK, CHUNK_BESIDE), FakeModel(1)
    scheduler.add(Sequence(0, [1, 2, 3], 1))
    assert scheduler.schedule() is not None
    assert [sequence.id for sequence in scheduler.drop_all()] == [0]
    assert scheduler.idle
    model.cells[0].clear()
    again = Sequence(1, [1, 2, 3], 1)
    scheduler.add(again)
    run_to_end(scheduler, model)
    assert again.n_cached == 0
    assert again.generated == expected([1, 2, 3], 1)


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


def test_the_last_prompt_token_never_counts_as_cached() -> None:
    cache = PrefixCache(1)
    cache.take(0, [1, 2, 3, 4])
    assert cache.best([1, 2, 3], [0]) == (0, 2)
    assert cache.best([1], [0]) == (0, 0)


class SchedulerMachine(RuleBasedStateMachine):
    """Arrivals, steps and cancellations in any order, against the fake KV cache."""

    N_SLOTS = 3

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(self.N_SLOTS, CHUNK, CHUNK_BESIDE)
        self.model = FakeModel(self.N_SLOTS)
        self.live: dict[int, Sequence] = {}
        self.n = 0

    @rule(prompt=prompts, max_tokens=st.integers(1, 5), n=st.integers(1, 3))
    def arrive(self, prompt: list[int], max_tokens: int, n: int) -> None:
        group = [Sequence(self.n + i, prompt, max_tokens) for i in range(n)]
        self.n += n
        self.live |= {sequence.id: sequence for sequence in group}
        self.scheduler.add(*group)

    @precondition(lambda self: self.live)
    @rule(pick=st.integers(0, 1000))
    def cancel(self, pick: int) -> None:
        key = sorted(self.live)[pick % len(self.live)]
        self.scheduler.remove(self.live.pop(key))

    @rule()
    def step(self) -> None:
        plan = self.scheduler.schedule()
        assert (plan is None) == (not self.live)
        if plan is None:
            return
        decoding = [work for work in plan.work if work.sequence.decoding]
        n_prompt = sum(len(work.tokens) for work in plan.work) - len(decoding)
        assert n_prompt <= (CHUNK_BESIDE if decoding else CHUNK)
        assert len({work.slot for work in plan.work}) == len(plan.work)
        for sequence, _token in self.scheduler.commit(plan, self.model.step(plan)):
            n = len(sequence.generated)
            assert sequence.generated == expected(sequence.prompt, n)
            if n == sequence.max_tokens:
                self.scheduler.remove(sequence)
                del self.live[sequence.id]

    @invariant()
    def slots_are_used_once(self) -> None:
        running = [s.slot for s in self.scheduler.sequences() if s.slot is not None]
        assert len(running) == len(set(running)) <= self.N_SLOTS
        assert {s.id for s in self.scheduler.sequences()} == set(self.live)

    @invariant()
    def decoding_is_never_passed_over(self) -> None:
        for sequence in self.scheduler.sequences():
            if sequence.decoding:
                assert sequence.n_computed == len(sequence.prompt) + len(sequence.generated) - 1


SchedulerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestSchedulerMachine: Callable[[], object] = SchedulerMachine.TestCase
