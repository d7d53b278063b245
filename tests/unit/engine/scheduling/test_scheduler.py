"""The scheduler under a fake model: nothing lost, nothing computed twice, budgets kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sheily_server.clients import Client
from sheily_server.engine.scheduling.drafts import MOST as MOST_DRAFTS
from sheily_server.engine.scheduling.drafts import Drafter, Index
from sheily_server.engine.scheduling.scheduler import Plan, Scheduler
from sheily_server.engine.scheduling.sequence import TokenSequence
from tests.support.fake_cells import FakeModel, computed, expected

CHUNK = 8
CONTEXT = 60
N_KEPT = 3
STEP_S, TOKEN_S = 0.1, 0.01


class Run:
    """A scheduler with its model, stepped as the engine does."""

    def __init__(
        self,
        n_slots: int = 2,
        context_size: int = CONTEXT,
        chunk: int = CHUNK,
        n_cells: int | None = None,
    ) -> None:
        n_sequences = n_slots + N_KEPT
        self.scheduler = Scheduler(
            n_slots=n_slots,
            context_size=context_size,
            n_sequences=n_sequences,
            n_cells=n_cells,
            chunk=chunk,
        )
        self.model = FakeModel(n_cells or n_slots * context_size, n_sequences)
        self.now = 0.0
        self.finished: list[TokenSequence] = []
        self.longest_step = 0

    def plan(self) -> Plan | None:
        plan = self.scheduler.schedule(self.now)
        if plan is not None:
            n = sum(len(work.tokens) + len(work.drafts) for work in plan.work)
            self.longest_step = max(self.longest_step, n)
        return plan

    def commit(self, plan: Plan) -> None:
        n = sum(len(work.tokens) + len(work.drafts) for work in plan.work)
        sampled = self.model.step(plan)
        self.scheduler.commit(plan, sampled, STEP_S + n * TOKEN_S)
        self.now += STEP_S + n * TOKEN_S
        for sequence in [work.sequence for work in plan.work if work.samples]:
            assert self.model.tokens(slot(sequence)) == computed(sequence)
            if len(sequence.generated) == sequence.max_tokens:
                self.scheduler.remove(sequence)
                self.finished.append(sequence)

    def step(self) -> Plan:
        plan = self.plan()
        assert plan is not None
        self.commit(plan)
        return plan

    def to_end(self) -> list[TokenSequence]:
        for _ in range(10_000):
            if self.scheduler.idle:
                assert self.plan() is None
                return self.finished
            self.step()
        raise AssertionError("the scheduler never came to an end")


def slot(sequence: TokenSequence) -> int:
    assert sequence.slot is not None
    return sequence.slot


def drafting(id: int, prompt: list[int], max_tokens: int) -> TokenSequence:
    return TokenSequence(id, prompt, max_tokens, drafter=Drafter(Index(prompt), Index([]), ()))


prompts = st.lists(st.integers(0, 3), min_size=1, max_size=30)


@given(
    requests=st.lists(
        st.tuples(prompts, st.integers(1, 30), st.booleans()), min_size=1, max_size=12
    ),
    n_slots=st.integers(1, 4),
)
def test_every_request_gets_the_tokens_it_would_get_alone(
    requests: list[tuple[list[int], int, bool]], n_slots: int
) -> None:
    run = Run(n_slots)
    for i, (prompt, n, drafts) in enumerate(requests):
        run.scheduler.add(drafting(i, prompt, n) if drafts else TokenSequence(i, prompt, n))
    finished = run.to_end()
    assert sorted(sequence.id for sequence in finished) == list(range(len(requests)))
    for sequence in finished:
        prompt, n, _ = requests[sequence.id]
        assert sequence.generated == expected(prompt, n)
    run.model.apply(run.scheduler._tree.take_operations())
    assert run.scheduler.n_cells_free == run.model.n_cells - run.model.n_used


@given(
    requests=st.lists(st.tuples(prompts, st.integers(0, 6), st.booleans()), min_size=1, max_size=8),
    n_slots=st.integers(1, 3),
)
def test_every_token_of_a_scored_prompt_is_a_target_once(
    requests: list[tuple[list[int], int, bool]], n_slots: int
) -> None:
    """Whatever of the prompt is cached, and whoever runs beside it; and the rows of logits that a
    step may have are enough."""
    run = Run(n_slots, chunk=100)
    targets: dict[int, list[int]] = {i: [] for i in range(len(requests))}
    for i, (prompt, n, scores) in enumerate(requests):
        if n or (scores and len(prompt) > 1):
            held = not n
            sequence = TokenSequence(i, prompt, max(n, not scores), scores=scores, held=held)
            run.scheduler.add(sequence)
    while not run.scheduler.idle:
        plan = run.plan()
        assert plan is not None
        assert plan.work
        assert sum(len(one.targets) + len(one.drafts) for one in plan.work) <= MOST_DRAFTS
        run.commit(plan)
        for work in plan.work:
            targets[work.sequence.id] += work.targets
            assert len(work.targets) in (0, len(work.tokens))
            if work.sequence.held and work.sequence.scored:
                run.scheduler.remove(work.sequence)
                run.finished.append(work.sequence)
    for sequence in run.finished:
        prompt, n, scores = requests[sequence.id]
        assert targets[sequence.id] == (prompt[1:] if scores else [])
        assert sequence.generated == expected(prompt, n)
        assert not (scores and sequence.n_cached)


def test_a_scored_prompt_is_cached_for_those_that_come_later() -> None:
    run = Run()
    run.scheduler.add(TokenSequence(0, [5, 6, 7, 8], 1, scores=True))
    run.to_end()
    run.scheduler.add(TokenSequence(1, [5, 6, 7, 9], 1))
    assert run.to_end()[-1].n_cached == 3


@pytest.mark.parametrize(("scores", "held"), [(True, False), (False, True), (False, False)])
def test_nothing_to_generate_is_for_prompts_that_are_scored_only(scores: bool, held: bool) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Run().scheduler.add(TokenSequence(0, [1, 2], 0, scores=scores, held=held))


def test_the_next_turn_of_a_conversation_computes_only_what_is_new() -> None:
    run = Run()
    first = TokenSequence(0, [1, 2, 3, 4, 5], 4)
    run.scheduler.add(first)
    run.to_end()
    known = first.prompt + first.generated[:-1]  # the last token was sampled, never computed
    second = TokenSequence(1, [*known, 9, 9], 2)
    run.scheduler.add(second)
    run.to_end()
    assert second.n_cached == len(known)
    assert second.generated == expected(second.prompt, 2)
    assert run.model.n_computed == len(known) + 2 + 1


def test_a_repeated_prompt_computes_its_last_token_again() -> None:
    run = Run(1)
    for i in range(2):
        run.scheduler.add(TokenSequence(i, [5, 6, 7], 1))
    assert [sequence.n_cached for sequence in run.to_end()] == [0, 2]


@given(
    system=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    tails=st.lists(st.lists(st.integers(4, 9), min_size=1, max_size=5), min_size=2, max_size=4),
)
def test_a_new_system_prompt_of_several_that_arrive_together_is_computed_once(
    system: list[int], tails: list[list[int]]
) -> None:
    run = Run(4)
    sequences = [TokenSequence(i, system + tail, 1) for i, tail in enumerate(tails)]
    run.scheduler.add(*sequences)
    run.to_end()
    known: set[tuple[int, ...]] = set()
    for tail in tails:
        known |= {tuple(tail[:n]) for n in range(1, len(tail) + 1)}
    shared = len(system) + len(known)
    again = sum(sequence.prompt != sequences[0].prompt for sequence in sequences)
    # Each computes its own last token, which another may have had in its prompt.
    assert run.model.n_computed <= shared + len(tails)
    assert run.model.n_computed == sum(len(s.prompt) - s.n_cached for s in sequences)
    assert sorted(s.n_cached >= len(system) for s in sequences)[1:] == [True] * (len(tails) - 1)
    assert again <= len(tails)


def test_prompts_that_part_are_computed_together_from_there() -> None:
    run = Run(3, chunk=16)
    system = [1] * 10
    run.scheduler.add(*(TokenSequence(i, [*system, 5 + i, 5], 1) for i in range(3)))
    plans = [run.step() for _ in range(2)]
    assert [[len(work.tokens) for work in plan.work] for plan in plans] == [[10], [2, 2, 2]]
    assert run.scheduler.idle


def test_what_was_used_last_is_kept() -> None:
    run = Run(1, context_size=600, chunk=600)
    old, recent, new = [1] * 280, [2] * 280, [3] * 100
    for i, prompt in enumerate((old, recent, new)):
        run.scheduler.add(TokenSequence(i, prompt, 1))
        run.to_end()
    for i, (prompt, n_cached) in enumerate(((recent, 279), (old, 24))):
        again = TokenSequence(3 + i, prompt, 1)
        run.scheduler.add(again)
        run.to_end()
        assert again.n_cached == n_cached  # of the oldest one the end went, not the beginning


def test_a_long_prompt_goes_in_small_pieces_beside_a_stream() -> None:
    run = Run(2, context_size=2000, chunk=64)
    stream = TokenSequence(0, [1], 900)
    run.scheduler.add(stream)
    run.step()
    long = TokenSequence(1, [2] * 800, 1)
    run.scheduler.add(long)
    sizes = []
    while long not in run.finished:
        plan = run.step()
        assert plan.work[0].sequence is stream
        sizes.append(sum(len(work.tokens) for work in plan.work[1:]))
    # An ordinary step takes 0.11 s, so twice that leaves room for 11 tokens of 0.01 s.
    assert max(sizes) <= 11
    assert sum(sizes) == 800
    assert len(sizes) <= 800 / 8  # and that room is used


def test_prompts_alone_take_whole_chunks() -> None:
    run = Run(2)
    run.scheduler.add(TokenSequence(0, [1] * 40, 1))
    run.scheduler.add(TokenSequence(1, [2] * 4, 1))
    assert [len(work.tokens) for work in run.step().work] == [4, 4]
    assert len(run.step().work[0].tokens) == 8


def test_short_prompts_that_come_together_begin_together() -> None:
    run = Run(4)
    run.scheduler.add(*(TokenSequence(i, [i] * 6, 5) for i in range(4)))
    plans = [run.step() for _ in range(4)]
    n_samples = [sum(work.samples for work in plan.work) for plan in plans]
    assert n_samples == [0, 0, 0, 4]
    assert run.model.n_computed == 4 * 6


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    run = Run(2)
    run.scheduler.add(TokenSequence(0, [1] * 50, 5), TokenSequence(1, [2] * 6, 5))
    plan = run.step()
    assert [(work.sequence.id, work.samples) for work in plan.work] == [(1, True), (0, False)]


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_chunks_smaller_than_the_number_of_prompts(chunk: int) -> None:
    run = Run(4, chunk=chunk)
    run.scheduler.add(*(TokenSequence(i, [i, 5], 3) for i in range(8)))
    assert len(run.to_end()) == 8


def test_the_shortest_prompt_goes_first() -> None:
    run = Run(1)
    for i, n in enumerate((20, 5, 12)):
        run.scheduler.add(TokenSequence(i, [i] * n, 1))
    assert [sequence.id for sequence in run.to_end()] == [1, 2, 0]


def test_a_prompt_whose_beginning_is_there_counts_for_its_rest() -> None:
    run = Run(1)
    run.scheduler.add(TokenSequence(0, [7] * 25, 1))
    run.to_end()
    run.scheduler.add(TokenSequence(1, [5] * 10, 1), TokenSequence(2, [*[7] * 25, 8], 1))
    assert [sequence.id for sequence in run.to_end()] == [0, 2, 1]


def test_a_long_prompt_is_not_held_up_for_ever() -> None:
    run = Run(1, context_size=400)
    long = TokenSequence(0, [1] * 300, 1)
    run.scheduler.add(long)
    for i in range(1, 1000):
        run.scheduler.add(TokenSequence(i, [2 + i % 2] * 4, 1))
        if long.slot is None:
            run.step()
    assert long.slot is not None or long in run.finished
    n_before = len(run.finished)
    assert n_before < 300


def test_an_answer_in_several_choices_computes_the_prompt_once() -> None:
    run = Run(4)
    group = [TokenSequence(i, [1, 2, 3, 4, 5, 6], 3) for i in range(4)]
    run.scheduler.add(*group)
    run.to_end()
    assert [sequence.n_cached for sequence in group] == [0, 5, 5, 5]
    assert len({tuple(sequence.generated) for sequence in group}) == 1
    assert run.model.n_computed == 6 + 3 * 1 + 4 * 2


def test_drafts_save_steps_and_stay_inside_the_answer() -> None:
    run = Run(1, context_size=400)
    sequence = drafting(0, [1, 2, 3], 200)
    run.scheduler.add(sequence)
    n_steps = n_drafted = 0
    while not run.scheduler.idle:
        for work in run.step().work:
            assert len(work.drafts) <= MOST_DRAFTS
            n_drafted += len(work.drafts)
        n_steps += 1
    assert sequence.generated == expected([1, 2, 3], 200)
    assert n_steps < 50
    assert n_drafted >= 200 - n_steps


def test_drafts_beside_other_streams_have_a_budget() -> None:
    run = Run(3, context_size=400, chunk=64)
    run.scheduler.add(*(drafting(i, [1, 2, 3 + i], 200) for i in range(2)))
    run.scheduler.add(TokenSequence(2, [9, 8, 7], 200))
    while not run.scheduler.idle:
        plan = run.step()
        if len(plan.work) == 3 and all(work.sequence.generated for work in plan.work):
            assert sum(len(work.drafts) for work in plan.work) <= 6
    for sequence in run.finished:
        assert sequence.generated == expected(sequence.prompt, 200)


def test_a_held_sequence_computes_its_prompt_but_for_the_last_token() -> None:
    run = Run(2)
    held, free = TokenSequence(0, [1, 2, 3, 4], 5, held=True), TokenSequence(1, [7, 8], 4)
    run.scheduler.add(held, free)
    while free not in run.finished:
        assert all(work.sequence is free or not work.samples for work in run.step().work)
    assert (held.n_computed, held.generated) == (3, [])
    assert run.plan() is None  # all that runs is held
    held.held = False
    run.to_end()
    assert held.generated == expected(held.prompt, 5)
    assert free.generated == expected(free.prompt, 4)


def test_a_held_stream_keeps_its_place_and_the_others_go_on() -> None:
    run = Run(2)
    first, second = TokenSequence(0, [1, 2, 3], 10), TokenSequence(1, [7, 8], 10)
    run.scheduler.add(first, second)
    for step in range(100):
        if run.scheduler.idle:
            break
        first.held = step % 3 != 0
        plan = run.plan()
        if plan is not None:
            assert all(work.sequence is second for work in plan.work) or not first.held
            run.commit(plan)
    assert run.finished == [second, first]
    assert first.generated == expected(first.prompt, 10)


def test_what_begins_is_told_even_when_nothing_can_be_computed() -> None:
    run = Run(1)
    sequence = TokenSequence(0, [1], 2, held=True)
    run.scheduler.add(sequence)
    plan = run.plan()
    assert plan is not None
    assert (plan.started, plan.work) == ([sequence], [])
    run.commit(plan)
    assert run.plan() is None


def test_after_a_failed_step_nothing_is_taken_from_the_cache() -> None:
    run = Run(1)
    first, waiting = TokenSequence(0, [1, 2, 3], 1), TokenSequence(1, [1, 2, 3], 1)
    run.scheduler.add(first, waiting)
    assert run.plan() is not None
    run.scheduler.drop_all()
    assert run.scheduler.idle
    assert first.slot is None
    for sequence in (first, waiting):  # who releases it need not know that it is out
        run.scheduler.remove(sequence)
    run.model = FakeModel(CONTEXT, 1 + N_KEPT)
    again = TokenSequence(2, [1, 2, 3], 1)
    run.scheduler.add(again)
    run.to_end()
    assert again.n_cached == 0
    assert again.generated == expected([1, 2, 3], 1)


@pytest.mark.parametrize(
    ("n_prompt", "max_tokens"), [(50, 20), (41, 20), (0, 20), (60, 1), (61, 0), (100, -50)]
)
def test_what_does_not_fit_is_never_added(n_prompt: int, max_tokens: int) -> None:
    scheduler = Run(1).scheduler
    with pytest.raises(ValueError, match="fit"):
        scheduler.add(TokenSequence(0, [1] * n_prompt, max_tokens))
    assert scheduler.idle


def test_what_runs_is_not_added_again() -> None:
    run = Run(2)
    sequence = TokenSequence(0, [1, 2, 3], 5)
    run.scheduler.add(sequence)
    run.step()
    with pytest.raises(ValueError, match="runs"):
        run.scheduler.add(sequence)


@pytest.mark.parametrize(("n_slots", "n_sequences", "chunk"), [(0, 3, 8), (4, 3, 8), (1, 1, 0)])
def test_sizes_that_cannot_be(n_slots: int, n_sequences: int, chunk: int) -> None:
    with pytest.raises(ValueError, match=r"slot|token"):
        Scheduler(n_slots=n_slots, context_size=CONTEXT, n_sequences=n_sequences, chunk=chunk)


@pytest.mark.parametrize("sampled", [[], [[1], [], [1]], [[], [1]], [[1], [1]]])
def test_tokens_that_are_not_those_of_the_plan(sampled: list[list[int]]) -> None:
    run = Run(2)
    first, second = TokenSequence(0, [1], 5), TokenSequence(1, [2] * 50, 5)
    run.scheduler.add(first, second)
    plan = run.plan()
    assert plan is not None
    assert [work.samples for work in plan.work] == [True, False]
    with pytest.raises(ValueError, match="plan"):
        run.scheduler.commit(plan, sampled, STEP_S)
    assert (first.generated, first.n_computed, second.n_computed) == ([], 0, 0)
    run.commit(plan)
    assert len(run.to_end()) == 2


def test_what_just_fits_is_added() -> None:
    run = Run(1)
    run.scheduler.add(TokenSequence(0, [1] * 40, 20))
    assert len(run.to_end()[0].generated) == 20


@given(
    requests=st.lists(
        st.tuples(prompts, st.integers(1, 30), st.booleans(), st.sampled_from("abc")),
        min_size=2,
        max_size=16,
    )
)
def test_all_end_in_a_pool_of_one_context(
    requests: list[tuple[list[int], int, bool, str]],
) -> None:
    run = Run(16, n_cells=CONTEXT)
    for i, (prompt, n, drafts, client) in enumerate(requests):
        sequence = drafting(i, prompt, n) if drafts else TokenSequence(i, prompt, n)
        sequence.client = (client,)
        run.scheduler.add(sequence)
    finished = run.to_end()
    assert sorted(sequence.id for sequence in finished) == list(range(len(requests)))
    for sequence in finished:
        prompt, n, *_ = requests[sequence.id]
        assert sequence.generated == expected(prompt, n)


def test_what_is_set_aside_is_the_youngest_of_who_has_most() -> None:
    run = Run(4, n_cells=2 * CONTEXT)
    for i, client in enumerate("abbc"):
        sequence = TokenSequence(i, [i, 0, 0, 0, 0], 50)
        sequence.client = (client,)
        run.scheduler.add(sequence)
        run.step()
    aside: list[tuple[TokenSequence, list[int]]] = []
    while not aside:
        aside = run.step().set_aside
    [(sequence, tokens)] = aside
    assert sequence.id == 2
    assert tokens == (sequence.prompt + expected(sequence.prompt, 50))[: len(tokens)]
    assert (sequence.slot, sequence.preempted) == (None, 1)
    finished = run.to_end()
    assert [each.id for each in finished][-1] == 2
    assert sequence.generated == expected(sequence.prompt, 50)
    assert sequence.n_cached == 0  # what it had itself does not count


def test_a_flood_of_short_prompts_does_not_go_before_a_long_one_of_another() -> None:
    run = Run(8, context_size=200, chunk=16)
    n = 0
    for _ in range(20):
        run.scheduler.add(TokenSequence(n, [n % 5, n % 3, *[1] * 10], 1, client=("flood",)))
        n += 1
        run.step()
    person = TokenSequence(1000, [4, *[2] * 99], 1, client=("person",))
    run.scheduler.add(person)
    steps = 0
    while not person.generated and steps < 100:
        for _ in range(3):  # more than a step can compute
            run.scheduler.add(TokenSequence(n, [n % 5, n % 7, *[3] * 10], 1, client=("flood",)))
            n += 1
        run.step()
        steps += 1
    assert steps <= 100 // 16 + 3


def test_what_fits_beside_what_runs_starts_and_what_does_not_waits() -> None:
    run = Run(8, n_cells=CONTEXT * 2)
    for i in range(8):
        run.scheduler.add(TokenSequence(i, [i, *[0] * 15], 5))
    plan = run.step()
    assert len(plan.started) == 3  # each has 16 of 120 cells, and should get 16 more
    assert len(run.to_end()) == 8


def test_nothing_starts_that_would_make_a_running_answer_late() -> None:
    run = Run(16, context_size=300, n_cells=4800)
    for i in range(8):  # it becomes known that answers take all that they may
        run.scheduler.add(TokenSequence(i, [i], 250))
    run.to_end()
    in_time = run.now + 39.0  # for 5 at once, whose steps take 0.15 s; 16 would take 65 s
    waiting = [TokenSequence(100 + i, [i], 250, deadline=in_time) for i in range(16)]
    run.scheduler.add(*waiting)
    run.finished.clear()
    while not run.scheduler.idle and run.now < in_time:
        run.step()
    assert len(run.finished) >= 5
    for sequence in waiting:
        run.scheduler.remove(sequence)
    assert run.scheduler.idle


def test_a_few_run_at_once_before_it_is_known_how_long_answers_become() -> None:
    run = Run(16, context_size=300, n_cells=4800)
    for i in range(16):
        run.scheduler.add(TokenSequence(i, [i], 250, deadline=1.0))
        run.step()
    assert sum(sequence.slot is not None for sequence in run.scheduler._running) >= 4


class SchedulerMachine(RuleBasedStateMachine):
    """Arrivals, steps and cancellations in any order, against the fake cells."""

    N_SLOTS = 3
    N_CELLS: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.run = Run(self.N_SLOTS, n_cells=self.N_CELLS)
        self.scheduler = self.run.scheduler
        self.live: dict[int, TokenSequence] = {}
        self.n = 0

    @rule(
        prompt=prompts,
        max_tokens=st.integers(1, 30),
        n=st.integers(1, 3),
        drafts=st.booleans(),
        client=st.sampled_from([(), ("a",), ("b", "c", "d"), ("b", "c", "e")]),
    )
    def arrive(
        self, prompt: list[int], max_tokens: int, n: int, drafts: bool, client: Client
    ) -> None:
        make = drafting if drafts else TokenSequence
        group = [make(self.n + i, prompt, max_tokens) for i in range(n)]
        for sequence in group:
            sequence.client = client
        self.n += n
        self.live |= {sequence.id: sequence for sequence in group}
        self.scheduler.add(*group)

    @precondition(lambda self: self.run.finished)
    @rule(pick=st.integers(0, 1000), more=prompts)
    def go_on(self, pick: int, more: list[int]) -> None:
        before = self.run.finished[pick % len(self.run.finished)]
        prompt = (before.prompt + before.generated)[: CONTEXT // 2] + more[:5]
        self.arrive(prompt, 3, 1, False, before.client)

    @precondition(lambda self: self.live)
    @rule(pick=st.integers(0, 1000))
    def cancel(self, pick: int) -> None:
        key = sorted(self.live)[pick % len(self.live)]
        self.scheduler.remove(self.live.pop(key))

    @rule()
    def step(self) -> None:
        before = self.running()
        plan = self.run.plan()
        assert (plan is None) == (not self.live)
        if plan is not None and plan.set_aside:
            oldest = min(before, key=lambda each: each.order)
            assert oldest not in [sequence for sequence, _ in plan.set_aside]
        if plan is None:
            return
        streams = [work for work in plan.work if work.sequence.decoding]
        n_further = sum(len(work.tokens) + len(work.drafts) for work in plan.work) - len(streams)
        alone = len(streams) == 1 == len(plan.work)
        assert n_further <= (MOST_DRAFTS if alone else CHUNK)
        assert len({work.slot for work in plan.work}) == len(plan.work)
        self.run.commit(plan)
        for sequence in list(self.live.values()):
            n = len(sequence.generated)
            assert sequence.generated == expected(sequence.prompt, n)
            if n == sequence.max_tokens:
                del self.live[sequence.id]

    def running(self) -> list[TokenSequence]:
        return [sequence for sequence in self.live.values() if sequence.slot is not None]

    @invariant()
    def every_slot_has_one_sequence(self) -> None:
        slots = [sequence.slot for sequence in self.running()]
        assert len(slots) == len(set(slots)) <= self.N_SLOTS
        assert self.scheduler.idle == (not self.live)

    @invariant()
    def cells_are_accounted_for(self) -> None:
        self.run.model.apply(self.scheduler._tree.take_operations())
        assert self.scheduler.n_cells_free == self.run.model.n_cells - self.run.model.n_used
        running = self.running()
        for sequence in running:
            assert self.run.model.tokens(slot(sequence)) == computed(sequence)
        held = {id(cell) for s in running for cell in self.run.model.cells[slot(s)]}
        assert self.scheduler.n_cells_cached == self.run.model.n_used - len(held)


SchedulerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)


class FullMachine(SchedulerMachine):
    """As many cells as one context has, and many who want them: no request fails, and each ends
    with the tokens that it would have alone."""

    N_SLOTS = 8
    N_CELLS = CONTEXT


FullMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60)
TestFullMachine: Callable[[], object] = FullMachine.TestCase
TestSchedulerMachine: Callable[[], object] = SchedulerMachine.TestCase
