"""The engine thread's end of the disk tier, with the scheduler and cells that know their tokens."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sheily_server.engine.disk.reader import AHEAD
from sheily_server.engine.disk.tier import Tier
from sheily_server.engine.disk.writer import IN_FLIGHT
from sheily_server.engine.runner import Runner
from sheily_server.engine.scheduling.scheduler import Scheduler
from sheily_server.engine.scheduling.sequence import TokenSequence
from sheily_server.kvstore.blocks import Blocks
from sheily_server.kvstore.folder import Folder
from sheily_server.kvstore.notes import Notes
from sheily_server.kvstore.owners import Owners
from sheily_server.kvstore.room import Room
from tests.support.fake_cells import computed, expected
from tests.support.saving_cells import SavingModel
from tests.support.waiting import WAIT

CONTEXT, N_KEPT = 700, 3


class UnboundedRoom(Room):
    """Is never looked through: its thread outlives the test, and the folder does not."""

    @property
    def is_due(self) -> bool:
        return False


class Engine:
    """What the engine thread does with the scheduler and the tier."""

    def __init__(self, path: Path, n_slots: int = 2) -> None:
        n_sequences = n_slots + N_KEPT
        self.scheduler = Scheduler(
            n_slots=n_slots, context_size=CONTEXT, n_sequences=n_sequences, chunk=200
        )
        self.model = SavingModel(n_slots * CONTEXT, n_sequences)
        self.folder = Folder(path)
        room = UnboundedRoom(self.folder, 1 << 30)
        self.tier = Tier(
            blocks=Blocks(self.folder, room),
            room=room,
            owners=Owners(self.folder),
            notes=Notes(self.folder, "answer", 1000),
            identity="a model",
            runner=cast(Runner, self.model),
            scheduler=self.scheduler,
            wake=lambda: None,
        )
        self.live: list[TokenSequence] = []
        self.n = 0

    def add(self, prompt: list[int], max_tokens: int = 3, n: int = 1, scope: str = "") -> Any:
        root = self.tier.root(scope)
        group = [TokenSequence(self.n + i + 1, prompt, max_tokens, root=root) for i in range(n)]
        self.n += n
        self.live += group
        self.tier.begin(group, root)
        self.scheduler.add(*group)
        return group

    def close(self, sequence: TokenSequence, owner: str = "") -> None:
        self.live.remove(sequence)
        tokens = computed(sequence)
        self.scheduler.remove(sequence)
        self.tier.ended(sequence)
        self.tier.finished(tokens, sequence.root, owner)

    def step(self) -> None:
        self.tier.work(self.scheduler.streaming)
        plan = self.scheduler.schedule()
        if plan is None:
            return
        for sequence in plan.started:
            self.tier.started(sequence)
        self.scheduler.commit(plan, self.model.step(plan), 0.1)
        for sequence in list(self.live):
            if len(sequence.generated) >= sequence.max_tokens:
                self.close(sequence)

    def fail(self) -> None:
        """As after a step that failed."""
        self.model.cells = [[] for _ in self.model.cells]
        self.scheduler.drop_all()
        self.tier.forget_all()
        for sequence in list(self.live):
            self.close(sequence)

    def to_end(self) -> None:
        until = time.monotonic() + WAIT
        while self.live:
            self.step()
            assert time.monotonic() < until
        while not self.tier.writer.is_idle:
            self.tier.work(self.scheduler.streaming)
            time.sleep(0.0005)
            assert time.monotonic() < until

    def ask(self, prompt: list[int], **how: Any) -> TokenSequence:
        """Returns the first sequence of those that answered."""
        [first, *_] = self.add(prompt, **how)
        self.to_end()
        assert first.generated == expected(prompt, first.max_tokens)
        return cast(TokenSequence, first)


def prompt_of(n: int, first: int) -> list[int]:
    return [first, *itertools.islice(itertools.cycle([1, 2, 3, 4]), n - 1)]


@pytest.fixture
def path() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp())
    yield made / "cache"
    shutil.rmtree(made, ignore_errors=True)


def test_what_one_engine_computed_another_has_read(path: Path) -> None:
    prompt = prompt_of(600, 5)
    assert Engine(path).ask(prompt).n_from_disk == 0
    second = Engine(path)
    assert second.ask(prompt).n_from_disk == 599
    assert second.ask(prompt, scope="another").n_from_disk == 0


def test_cells_that_go_do_not_keep_the_writer_from_what_it_asked_for(path: Path) -> None:
    """It asks for one file at a time, and writes nothing else before it has an answer."""
    engine = Engine(path)
    prompts = [prompt_of(600, first) for first in range(5, 9)]
    for prompt in prompts:  # four that end, of which nothing is asked for yet
        group = engine.add(prompt)
        while group[0] in engine.live:
            plan = engine.scheduler.schedule()
            assert plan is not None
            for sequence in plan.started:
                engine.tier._end(engine.tier._loads[sequence.id])
            engine.scheduler.commit(plan, engine.model.step(plan), 0.1)
            if len(group[0].generated) >= group[0].max_tokens:
                engine.close(group[0])
    assert engine.tier.writer.n_dropped
    left = engine.tier.writer.buffers.take(1)
    assert left is not None
    engine.tier.writer.buffers.give_back(left)
    engine.to_end()
    assert len(engine.folder.names("owners")) > 1


def test_a_copy_that_was_put_off_is_told(path: Path) -> None:
    engine = Engine(path)
    engine.tier._next_copy = time.monotonic() + WAIT
    engine.add(prompt_of(300, 5))
    while engine.live:
        engine.step()
    while not engine.tier.has_put_off:
        engine.tier.work(streaming=True)
    engine.tier.work(streaming=False)
    assert not engine.tier.has_put_off
    engine.to_end()


parts = st.tuples(st.integers(0, 1), st.sampled_from([10, 100, 250, 256]))


class TierMachine(RuleBasedStateMachine):
    """Requests, steps, cancels, failures and restarts in any order, in a pool that is too small."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.engine = Engine(self.path / "cache")
        self.asked: list[tuple[list[int], str]] = []

    def teardown(self) -> None:
        self.engine.to_end()
        writer, reader = self.engine.tier.writer.buffers, self.engine.tier.reader.buffers
        assert None not in [writer.take(1) for _ in range(IN_FLIGHT)]
        assert None not in [reader.take(1, timeout=WAIT) for _ in range(AHEAD)]
        assert not self.engine.tier._loads
        shutil.rmtree(self.path, ignore_errors=True)

    @rule(
        parts=st.lists(parts, min_size=1, max_size=3),
        n=st.integers(1, 3),
        scope=st.sampled_from(["", "x"]),
        max_tokens=st.integers(1, 40),
    )
    def ask(self, parts: list[tuple[int, int]], n: int, scope: str, max_tokens: int) -> None:
        prompt = [token for first, length in parts for token in prompt_of(length, first)]
        self.engine.add(prompt[: CONTEXT - max_tokens], max_tokens, n, scope)
        self.asked.append((prompt[: CONTEXT - 40], scope))

    @rule(pick=st.integers(0, 100), more=parts)
    def go_on(self, pick: int, more: tuple[int, int]) -> None:
        if self.asked:
            prompt, scope = self.asked[pick % len(self.asked)]
            first, length = more
            self.engine.add((prompt + prompt_of(length, first))[: CONTEXT - 5], 5, 1, scope)

    @rule()
    def finish(self) -> None:
        self.engine.to_end()

    @rule(n=st.integers(1, 12), wait=st.booleans())
    def steps(self, n: int, wait: bool) -> None:
        for _ in range(n):
            self.engine.step()
            if wait and self.engine.tier._loads:  # as a step takes far longer than a file
                time.sleep(0.005)

    @rule(pick=st.integers(0, 100))
    def cancel(self, pick: int) -> None:
        if self.engine.live:  # no precondition: what is left at a time is not always the same
            self.engine.close(self.engine.live[pick % len(self.engine.live)])

    @rule()
    def give_up(self) -> None:
        for load in self.engine.tier._loads.values():
            load.due = 0.0

    @rule(really=st.integers(0, 5))
    def fail(self, really: int) -> None:
        if not really:
            self.engine.fail()

    @rule()
    def lose_a_file(self) -> None:
        for path in sorted(self.path.glob("cache/??/*.kv"))[:1]:
            path.unlink(missing_ok=True)

    @rule(n_slots=st.integers(1, 3), wait=st.booleans())
    def restart(self, n_slots: int, wait: bool) -> None:
        if wait:
            self.engine.to_end()
        for sequence in list(self.engine.live):
            self.engine.close(sequence)
        self.engine.tier.flush()
        self.engine = Engine(self.path / "cache", n_slots)
        for prompt, scope in self.asked[-4:]:
            self.engine.add(prompt, 5, 1, scope)

    @invariant()
    def cells_are_those_of_the_tokens(self) -> None:
        engine = self.engine
        engine.model.apply(engine.scheduler.take_operations())
        assert engine.scheduler.n_cells_free == engine.model.n_cells - engine.model.n_used
        for sequence in engine.live:
            assert sequence.generated == expected(sequence.prompt, len(sequence.generated))
            if sequence.slot is not None:
                assert engine.model.tokens(sequence.slot) == computed(sequence)


TierMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestTierMachine: Callable[[], object] = TierMachine.TestCase
