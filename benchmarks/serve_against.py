"""Our server beside its peers: rounds in which each contestant is started alone, asked the same,
and stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType

import msgspec
from tqdm import tqdm

from benchmarks import peers, serve_aims, serve_contestants, serve_scenarios
from benchmarks.report import BenchmarkError, Machine
from benchmarks.serve_contestants import Load, Recipe, Server
from benchmarks.serve_report import (
    COPY_HEAVY,
    LLAMA_CPP_PYTHON,
    LLAMA_SERVER,
    LONG_BESIDE_STREAMS,
    MIXED,
    NAMES,
    NO_REPETITION,
    OURS,
    OURS_PLAIN,
    PREDICTION,
    SCENARIOS,
    SINGLE,
    Figures,
    Report,
    Round,
    Turn,
    medians,
    memories,
)
from benchmarks.serve_scenarios import Subject
from benchmarks.serve_texts import N_CLIENTS, Plan, mean_tokens, visits, write_plan
from benchmarks.server_process import cpu_s, machine_cpu_s
from sheily_native import Model
from sheily_server.engine.runner import Tokenizer
from sheily_server.prompts import recognize, render
from sheily_server.prompts.message import Message

PEERS = (LLAMA_SERVER, LLAMA_CPP_PYTHON)
ALL = "all"
"""Instead of a name: the peers that can be had."""
OWN_SCENARIOS = (PREDICTION, NO_REPETITION)
"""They ask for what the peers do not have, or compare our server with itself."""
PLAIN_SCENARIOS = (COPY_HEAVY, PREDICTION, NO_REPETITION)
WARM_UP_TOKENS = 4
PROBE_TOKENS = 16
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """What `python -m benchmarks.serve` was told. `load` is the part of our speed for one client
    that the mixed scenario asks for, `rate` instead its arrivals a second; an empty `scenarios`
    means those that can be measured. Programs of peers are built in `scratch` where they are None.
    """

    model: Path
    threads: int
    context_size: int
    rounds: int
    tokens: int
    long_answer: int
    prompt_tokens: int
    minutes: float
    load: float
    rate: float | None
    seed: int
    against: Sequence[str]
    scenarios: Sequence[str]
    scratch: Path
    llama_server: Path | None
    llama_cpp_python: Path | None


class TokenCounter:
    """How many tokens the prompt with a user message has; of the model, the vocabulary is loaded
    alone."""

    def __init__(self, path: Path) -> None:
        self._model = Model(path, vocab_only=True)
        self._tokenizer = Tokenizer(self._model)
        self._dialect = recognize(self._model.metadata)

    def __call__(self, text: str) -> int:
        segments = render(self._dialect, [Message("user", text)], date=date.today())
        return len(self._tokenizer.encode(segments))

    def __enter__(self) -> TokenCounter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._model.close()


class Comparison:
    """The contestants, and the rounds that they are put through."""

    def __init__(self, options: Options, scenarios: Sequence[str], count: TokenCounter) -> None:
        """Builds the peers that are not there yet. Raises BenchmarkError."""
        self._options = options
        self._scenarios = scenarios
        self._count = count
        self.notes: list[str] = []
        self.visits_per_s = options.rate
        load = Load(options.model, options.context_size, N_CLIENTS, options.threads)
        switch = serve_contestants.has_speculation()
        self.recipes = [serve_contestants.ours(load, True if switch else None)]
        if switch and set(scenarios) & set(PLAIN_SCENARIOS):
            self.recipes.append(serve_contestants.ours(load, False))
        for name in PEERS:
            if name in options.against or ALL in options.against:
                self._add_peer(name, load)

    def run(self) -> list[Round]:
        """Every second round has the contestants in reverse order, so that a machine which changes
        its speed is the same for all as nearly as can be."""
        rounds: list[Round] = []
        total = self._options.rounds * sum(len(self._chosen(one)) for one in self.recipes)
        with tqdm(total=total, disable=None, leave=False) as bar:
            for index in range(self._options.rounds):
                seed = self._options.seed + index
                plan = write_plan(seed, self._count, self._options.prompt_tokens)
                turns = {}
                for recipe in list(self.recipes) if index % 2 == 0 else self.recipes[::-1]:
                    bar.set_description(f"round {index + 1}: {NAMES[recipe.name]}")
                    try:
                        turns[recipe.name] = self._turn(recipe, plan, seed, bar.update)
                    except BenchmarkError as error:
                        if index > 0 or not self._may_go(recipe.name):
                            raise
                        self.recipes.remove(recipe)
                        self.notes.append(f"without {NAMES[recipe.name]}: {error}")
                rounds.append({name: turns[name] for name in NAMES if name in turns})
        return rounds

    def _add_peer(self, name: str, load: Load) -> None:
        options = self._options
        try:
            if name == LLAMA_SERVER:
                program = options.llama_server or peers.llama_server(options.scratch)
                recipe = serve_contestants.llama_server(program, load)
            else:
                python = options.llama_cpp_python or peers.llama_cpp_python(options.scratch)
                recipe = serve_contestants.llama_cpp_python(python, load)
        except BenchmarkError as error:
            if not self._may_go(name):
                raise
            self.notes.append(f"without {NAMES[name]}: {error}")
        else:
            self.recipes.append(recipe)

    def _may_go(self, name: str) -> bool:
        """Whether the run goes on without a contestant: it was not asked for by name."""
        return name in PEERS and name not in self._options.against

    def _chosen(self, recipe: Recipe) -> list[str]:
        """What this contestant is asked, of what was chosen."""
        return [
            scenario
            for scenario in self._scenarios
            if (recipe.name == OURS)
            or (recipe.name == OURS_PLAIN and scenario in PLAIN_SCENARIOS)
            or (
                recipe.name in PEERS
                and scenario not in OWN_SCENARIOS
                and (recipe.side_by_side or scenario != LONG_BESIDE_STREAMS)
            )
        ]

    def _turn(self, recipe: Recipe, plan: Plan, seed: int, advance: Callable[[], object]) -> Turn:
        run = serve_scenarios.RUN_PLAIN if recipe.name == OURS_PLAIN else serve_scenarios.RUN
        found: dict[str, Figures] = {}
        with Server(recipe) as server:
            subject = self._subject(server, plan)
            doing = "warming up"
            try:
                subject.ask("Good morning.", WARM_UP_TOKENS)
                for doing in self._chosen(recipe):
                    if doing == MIXED:
                        subject = self._with_visits(subject, found.get(SINGLE), seed)
                    found[doing] = _beside_others(server, run[doing], subject)
                    advance()
            except BenchmarkError as error:
                raise server.failure(f"failed while {doing}: {error}") from error
            return Turn(found, server.memory())

    def _subject(self, server: Server, plan: Plan) -> Subject:
        return Subject(
            address=server.address,
            extra=server.recipe.extra,
            plan=plan,
            tokens=self._options.tokens,
            long_answer=self._options.long_answer,
            context_size=self._options.context_size,
        )

    def _with_visits(self, subject: Subject, alone: Figures | None, seed: int) -> Subject:
        """The first contestant is ours, and what it does sets the pace for all."""
        if self.visits_per_s is None:
            speed = None if alone is None else alone.decode_per_s
            if speed is None:
                speed = subject.ask(subject.plan.single, PROBE_TOKENS).decode_rate or 1.0
            self.visits_per_s = self._options.load * speed / mean_tokens()
        seconds = 60 * self._options.minutes
        coming = visits(seed, self.visits_per_s, seconds, self._count)
        return Subject(
            address=subject.address,
            extra=subject.extra,
            plan=subject.plan,
            tokens=subject.tokens,
            long_answer=subject.long_answer,
            context_size=subject.context_size,
            visits=coming,
        )


def measure(options: Options, machine: Machine) -> Report:
    """Raises BenchmarkError when a contestant that was asked for cannot be measured."""
    scenarios, notes = choose(options.scenarios, serve_contestants.has_speculation())
    with TokenCounter(options.model) as count:
        comparison = Comparison(options, scenarios, count)
        rounds = comparison.run()
    return Report(
        model=options.model.name,
        model_bytes=options.model.stat().st_size,
        threads=options.threads,
        context_size=options.context_size,
        parallel=N_CLIENTS,
        tokens=options.tokens,
        long_answer=options.long_answer,
        minutes=options.minutes,
        visits_per_s=comparison.visits_per_s,
        machine=machine,
        contestants={one.name: describe(one) for one in comparison.recipes},
        notes=[*notes, *comparison.notes],
        scenarios=medians(rounds),
        memory=memories(rounds),
        verdicts=serve_aims.verdicts(rounds),
        rounds=rounds,
    )


def choose(wanted: Sequence[str], has_speculation: bool) -> tuple[list[str], list[str]]:
    """The scenarios in their order, and a note for one that was left out.

    Raises BenchmarkError when one that was asked for cannot be measured.
    """
    chosen = [name for name in SCENARIOS if not wanted or name in wanted]
    if has_speculation or NO_REPETITION not in chosen:
        return chosen, []
    problem = f"this sheily_server has no setting {serve_contestants.SPECULATION}"
    if NO_REPETITION in wanted:
        raise BenchmarkError(f"{problem}, so that {NO_REPETITION} cannot be measured")
    chosen.remove(NO_REPETITION)
    return chosen, [f"without {NO_REPETITION} and speculation off: {problem}"]


def describe(recipe: Recipe) -> str:
    """How a contestant is started, and the version of a package."""
    words = list(recipe.command)
    version = ""
    if recipe.name == LLAMA_CPP_PYTHON:
        version = peers.package_version(Path(words[0]), peers.LLAMA_CPP_PYTHON_PACKAGE) + ": "
    return version + " ".join(words)


def _beside_others(server: Server, run: Callable[[Subject], Figures], subject: Subject) -> Figures:
    """A scenario, with what other programs used of the machine meanwhile."""
    time.sleep(SETTLE_S)
    began, machine = time.monotonic(), machine_cpu_s() - time.process_time()
    before = _cpu(server.pids)
    found = run(subject)
    used = sum(after - before.get(pid, 0.0) for pid, after in _cpu(server.pids).items())
    others = machine_cpu_s() - time.process_time() - machine - used
    return msgspec.structs.replace(found, others_cpu=max(0.0, others / (time.monotonic() - began)))


def _cpu(pids: Sequence[int]) -> Mapping[int, float]:
    return {pid: cpu_s(pid) for pid in pids}
