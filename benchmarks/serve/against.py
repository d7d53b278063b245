"""Our server beside its peers: rounds in which each contestant is started alone, asked the same,
and stopped. Our server with speculation on and off is a pair: both run, and are asked in turn."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tqdm import tqdm

from benchmarks.common.report import BenchmarkError, Machine
from benchmarks.common.usage import cpu_s, machine_cpu_s
from benchmarks.engine import peers
from benchmarks.serve import aims, contestants
from benchmarks.serve.contestants import Load, Recipe, Server
from benchmarks.serve.report import (
    LLAMA_CPP_PYTHON,
    LLAMA_SERVER,
    LONG_BESIDE_STREAMS,
    MIXED,
    NAMES,
    NO_REPETITION,
    OURS,
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
from benchmarks.serve.scenarios import RUN, RUN_PAIR, Pair, Subject
from benchmarks.serve.texts import N_CLIENTS, Plan, mean_tokens, visits, write_plan
from benchmarks.serve.token_counter import Count, token_counter

PEERS = (LLAMA_SERVER, LLAMA_CPP_PYTHON)
ALL = "all"
"""Instead of a name: the peers that can be had."""
OWN_SCENARIOS = (PREDICTION, NO_REPETITION)
"""They ask for what the peers do not have, or compare our server with itself."""
WARM_UP_TOKENS = 4
PROBE_TOKENS = 16
SETTLE_S = 0.5

Entrant = tuple[Recipe] | tuple[Recipe, Recipe]
"""A contestant that is started alone, or a pair that runs at the same time."""


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


class Comparison:
    """The contestants, and the rounds that they are put through."""

    def __init__(self, options: Options, scenarios: Sequence[str], count: Count) -> None:
        """Builds the peers that are not there yet. Raises BenchmarkError."""
        self._options = options
        self._scenarios = scenarios
        self._count = count
        self.notes: list[str] = []
        self.visits_per_s = options.rate
        load = Load(options.model, options.context_size, N_CLIENTS, options.threads)
        switch = contestants.has_speculation()
        self._paired = [name for name in scenarios if switch and name in RUN_PAIR]
        """The scenarios in which our server is a pair."""
        self._entrants: list[Entrant] = []
        if set(scenarios) - set(self._paired):
            self._entrants.append((contestants.ours(load, True if switch else None),))
        if self._paired:
            small = dataclasses.replace(load, parallel=1)
            on, off = (contestants.ours(small, speculation) for speculation in (True, False))
            self._entrants.append((on, off))
            self.notes.append(
                f"{', '.join(self._paired)}: our servers with speculation on and off run at the "
                "same time with --parallel 1, and are asked in turn"
            )
        for name in PEERS:
            if name in options.against or ALL in options.against:
                self._add_peer(name, load)

    @property
    def contestants(self) -> dict[str, str]:
        """How each is started; that which is measured alone goes before its like of the pair."""
        found: dict[str, str] = {}
        for entrant in self._entrants:
            for recipe in entrant:
                found.setdefault(recipe.name, describe(recipe))
        return found

    def run(self) -> list[Round]:
        """Every second round has the contestants in reverse order, so that a machine which changes
        its speed is the same for all as nearly as can be."""
        rounds: list[Round] = []
        total = self._options.rounds * sum(len(self._chosen(one)) for one in self._entrants)
        with tqdm(total=total, disable=None, leave=False) as bar:
            for index in range(self._options.rounds):
                seed = self._options.seed + index
                plan = write_plan(seed, self._count, self._options.prompt_tokens)
                turns: Round = {}
                is_odd = index % 2 == 1
                for entrant in self._entrants[::-1] if is_odd else list(self._entrants):
                    name = entrant[0].name
                    bar.set_description(f"round {index + 1}: {NAMES[name]}")
                    try:
                        if len(entrant) == 1:
                            found = {name: self._turn(entrant, plan, seed, bar.update)}
                        else:
                            found = self._pair_turns(entrant, plan, is_odd, bar.update)
                    except BenchmarkError as error:
                        if index > 0 or not self._may_go(name):
                            raise
                        self._entrants.remove(entrant)
                        self.notes.append(f"without {NAMES[name]}: {error}")
                    else:
                        _add(turns, found)
                rounds.append({name: turns[name] for name in NAMES if name in turns})
        return rounds

    def _add_peer(self, name: str, load: Load) -> None:
        options = self._options
        try:
            if name == LLAMA_SERVER:
                program = options.llama_server or peers.llama_server(options.scratch)
                recipe = contestants.llama_server(program, load)
            else:
                python = options.llama_cpp_python or peers.llama_cpp_python(options.scratch)
                recipe = contestants.llama_cpp_python(python, load)
        except BenchmarkError as error:
            if not self._may_go(name):
                raise
            self.notes.append(f"without {NAMES[name]}: {error}")
        else:
            self._entrants.append((recipe,))

    def _may_go(self, name: str) -> bool:
        """Whether the run goes on without a contestant: it was not asked for by name."""
        return name in PEERS and name not in self._options.against

    def _chosen(self, entrant: Entrant) -> list[str]:
        """What is asked here, of what was chosen."""
        recipe = entrant[0]
        if len(entrant) > 1:
            return self._paired
        if recipe.name == OURS:
            return [scenario for scenario in self._scenarios if scenario not in self._paired]
        return [
            scenario
            for scenario in self._scenarios
            if scenario not in OWN_SCENARIOS
            and (recipe.side_by_side or scenario != LONG_BESIDE_STREAMS)
        ]

    def _turn(
        self, entrant: tuple[Recipe], plan: Plan, seed: int, advance: Callable[[], object]
    ) -> Turn:
        (recipe,) = entrant
        found: dict[str, Figures] = {}
        with Server(recipe) as server:
            subject = self._subject(server, plan)
            doing = "warming up"
            try:
                subject.ask("Good morning.", WARM_UP_TOKENS)
                for doing in self._chosen(entrant):
                    if doing == MIXED:
                        subject = self._with_visits(subject, found.get(SINGLE), seed)
                    (found[doing],) = _beside_others([server], _alone(RUN[doing], subject))
                    advance()
            except BenchmarkError as error:
                raise server.failure(f"failed while {doing}: {error}") from error
            return Turn(found, server.memory())

    def _pair_turns(
        self,
        entrant: tuple[Recipe, Recipe],
        plan: Plan,
        off_first: bool,
        advance: Callable[[], object],
    ) -> Round:
        """Without their memory, which is not that of a server for several clients."""
        with_on: dict[str, Figures] = {}
        with_off: dict[str, Figures] = {}
        with Server(entrant[0]) as on, Server(entrant[1]) as off:
            pair = Pair(self._subject(on, plan), self._subject(off, plan), off_first)
            doing = "warming up"
            try:
                pair.ask("Good morning.", WARM_UP_TOKENS)
                for doing in self._paired:
                    run = functools.partial(RUN_PAIR[doing], pair)
                    with_on[doing], with_off[doing] = _beside_others([on, off], run)
                    advance()
            except BenchmarkError as error:
                problem = f"of the pair, while {doing}: {error}"
                logs = "; ".join(str(server.failure(problem)) for server in (on, off))
                raise BenchmarkError(logs) from error
        return {on.recipe.name: Turn(with_on), off.recipe.name: Turn(with_off)}

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
    scenarios, notes = choose(options.scenarios, contestants.has_speculation())
    with token_counter(options.model) as count:
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
        contestants=comparison.contestants,
        notes=[*notes, *comparison.notes],
        scenarios=medians(rounds),
        memory=memories(rounds),
        verdicts=aims.verdicts(rounds),
        rounds=rounds,
    )


def choose(wanted: Sequence[str], has_speculation: bool) -> tuple[list[str], list[str]]:
    """The scenarios in their order, and a note for one that was left out.

    Raises BenchmarkError when one that was asked for cannot be measured.
    """
    chosen = [name for name in SCENARIOS if not wanted or name in wanted]
    if has_speculation or NO_REPETITION not in chosen:
        return chosen, []
    problem = f"this sheily_server has no setting {contestants.SPECULATION}"
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


def _add(turns: Round, found: Round) -> None:
    """What was measured of a contestant alone and in the pair is one turn."""
    for name, turn in found.items():
        other = turns.get(name, Turn({}))
        both = {**other.scenarios, **turn.scenarios}
        turns[name] = Turn(
            {scenario: both[scenario] for scenario in SCENARIOS if scenario in both},
            turn.memory or other.memory,
        )


def _alone(run: Callable[[Subject], Figures], subject: Subject) -> Callable[[], Sequence[Figures]]:
    return lambda: [run(subject)]


def _beside_others(
    servers: Sequence[Server], run: Callable[[], Sequence[Figures]]
) -> list[Figures]:
    """A scenario, with what programs other than these servers used of the machine meanwhile."""
    time.sleep(SETTLE_S)
    began, machine = time.monotonic(), machine_cpu_s() - time.process_time()
    before = _cpu(servers)
    found = run()
    used = sum(after - before.get(pid, 0.0) for pid, after in _cpu(servers).items())
    others = machine_cpu_s() - time.process_time() - machine - used
    others_cpu = max(0.0, others / (time.monotonic() - began))
    return [msgspec.structs.replace(one, others_cpu=others_cpu) for one in found]


def _cpu(servers: Sequence[Server]) -> Mapping[int, float]:
    return {pid: cpu_s(pid) for server in servers for pid in server.pids}
