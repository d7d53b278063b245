"""Varies one setting after the other within a time limit; a bench does the timing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..errors import ModelLoadError, NativeError
from .plan import (
    CHECK,
    DEFAULT,
    STAGES,
    Figures,
    Machine,
    Settings,
    Stage,
    choose,
    is_hopeless,
    is_slow_step,
)

ROUNDS = 4
"""The most times that a candidate is timed in a stage."""

LEAST_PROMPT, LEAST_ANSWER = 64, 4
"""The fewest tokens of a run, however little time there is."""

_SAFETY = 1.3
"""Runs may be slower than expected."""


class Bench(Protocol):
    """As `measure.Bench`."""

    def load(self, kernel: str) -> None: ...

    def run(self, settings: Settings, prompt: int, answer: int) -> Figures: ...

    def rest(self) -> None: ...


class Observer(Protocol):
    """Is told what is about to be timed, and the result of a stage."""

    def before(self, stage: Stage, settings: Settings) -> None: ...

    def after(self, stage: Stage, rows: Sequence[Row], winner: Settings) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """The result for a candidate; `figures` None: it was not timed, and `problem` says why."""

    settings: Settings
    figures: Figures | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The settings that won, with their figures and the defaults' from the same stage.

    `rejected` are others that looked better than the defaults; `reason` says why they lost.
    """

    settings: Settings
    figures: Figures
    default: Figures
    rejected: Settings | None = None
    reason: str = ""


@dataclass(slots=True)
class _Tried:
    """The results of a stage so far; `deadline` is for the first run of each candidate."""

    guess_s: float
    deadline: float
    timed: dict[Settings, Figures] = field(default_factory=dict)
    problems: dict[Settings, str] = field(default_factory=dict)
    took: dict[Settings, float] = field(default_factory=dict)

    def add(self, settings: Settings, figures: Figures, seconds: float) -> None:
        known = self.timed.get(settings)
        self.timed[settings] = figures if known is None else known.best(figures)
        self.took[settings] = seconds

    def expected_s(self, settings: Settings) -> float:
        """Estimates the next run of `settings` from its last one, the others', or a guess."""
        return self.took.get(settings, max(self.took.values(), default=self.guess_s))


class Search:
    """One run over all stages.

    `clock` returns seconds. Nothing is begun that is not expected to end by `deadline`, except one
    run with the defaults.
    """

    def __init__(
        self,
        bench: Bench,
        machine: Machine,
        observer: Observer,
        *,
        clock: Callable[[], float],
        deadline: float,
    ) -> None:
        self._bench = bench
        self._machine = machine
        self._observer = observer
        self._clock = clock
        self._deadline = deadline
        self._default: Figures | None = None
        self._last: Figures | None = None
        self._loaded = ""
        self._load_s = 0.0
        self._scale = 1.0

    def run(self) -> Outcome:
        """Runs all stages.

        Raises ModelLoadError, or the NativeError of settings that others are compared with.
        """
        best = DEFAULT
        stages = (*STAGES, CHECK)
        for i, stage in enumerate(STAGES):
            share = stage.weight / sum(later.weight for later in stages[i:])
            self._scale = self._fitting(STAGES[i:], best)
            best = choose(best, self._stage(self._scaled(stage), best, share))
        assert self._default is not None  # the first stage has timed them
        if best == DEFAULT:
            return Outcome(DEFAULT, self._default, self._default)
        if self._clock() + self._check_s(best) < self._deadline:
            timed = self._stage(self._scaled(CHECK), best, 1.0)
            if choose(DEFAULT, timed) == best:
                return Outcome(best, timed[best], timed[DEFAULT])
            reason = "it was no faster when it was timed again"
        else:
            reason = "no time was left to confirm it, which more --seconds would give"
        return Outcome(DEFAULT, self._default, self._default, best, reason)

    def _stage(self, stage: Stage, best: Settings, share: float) -> dict[Settings, Figures]:
        """Times a stage's candidates kernel by kernel, as each has a weight layout of its own."""
        candidates = stage.candidates(best, self._machine)
        # Leaves time for the check, and some more, as runs may be slower than expected.
        deadline = (
            math.inf if stage.name == CHECK.name else self._deadline - _SAFETY * self._check_s(best)
        )
        tried = _Tried(self._guess_s(stage), deadline)
        groups = [list(group) for _, group in itertools.groupby(candidates, lambda c: c.kernel)]
        end = self._clock() + share * (self._deadline - self._clock())
        for i, group in enumerate(groups):
            if self._load(stage, group, best, tried):
                group_end = self._clock() + (end - self._clock()) / (len(groups) - i)
                self._time(stage, group, best, group_end, tried)
                self._bench.rest()
        rows = [
            Row(settings, tried.timed.get(settings), tried.problems.get(settings, "no time left"))
            for settings in candidates
        ]
        self._observer.after(stage, rows, choose(best, tried.timed))
        return tried.timed

    def _load(self, stage: Stage, group: list[Settings], best: Settings, tried: _Tried) -> bool:
        """Loads the model for a group, which has one kernel. Returns whether it is loaded."""
        kernel = group[0].kernel
        load_s = 0.0 if kernel == self._loaded else self._load_s
        if not self._may_begin(group, load_s + tried.expected_s(group[0]), tried.deadline):
            return False
        self._observer.before(stage, group[0])
        began = self._clock()
        try:
            self._loaded = ""
            self._bench.load(kernel)
        except NativeError as error:
            if best in group or isinstance(error, ModelLoadError):
                raise
            tried.problems |= dict.fromkeys(group, str(error))
            return False
        self._loaded = kernel
        self._load_s = max(self._load_s, self._clock() - began)
        return True

    def _time(
        self, stage: Stage, group: list[Settings], best: Settings, end: float, tried: _Tried
    ) -> None:
        """Times a group round by round, so that a disturbance hits all of its settings alike."""
        for settings in group:
            if settings != best and self._is_slow(settings):
                tried.problems[settings] = "its steps would take too long"
        for number in range(ROUNDS):
            for settings in group:
                limit = tried.deadline if number == 0 else end
                hopeless = settings != best and is_hopeless(settings, tried.timed)
                if settings in tried.problems or hopeless:
                    continue
                if not self._may_begin([settings], tried.expected_s(settings), limit):
                    continue
                self._observer.before(stage, settings)
                began = self._clock()
                try:
                    figures = self._bench.run(settings, stage.prompt, stage.answer)
                except NativeError as error:
                    if settings == best:
                        raise
                    tried.problems[settings] = str(error)
                else:
                    tried.add(settings, figures, self._clock() - began)
                    if figures.decode is not None and settings == best:
                        self._last = figures
                    if figures.decode is not None and settings == DEFAULT:
                        self._default = tried.timed[DEFAULT]

    def _may_begin(self, group: list[Settings], seconds: float, limit: float) -> bool:
        """Whether so much time is left, or the group has the defaults, which were never timed."""
        needed = self._default is None and DEFAULT in group
        return needed or self._clock() + seconds < limit

    def _check_s(self, best: Settings) -> float:
        """Estimates the seconds of the check of the best so far."""
        loads = (best.kernel != self._loaded) + (best.kernel != DEFAULT.kernel)
        return loads * self._load_s + 2 * self._guess_s(self._scaled(CHECK))

    def _fitting(self, stages: Sequence[Stage], best: Settings) -> float:
        """Returns the share of their tokens with which all candidates of these stages, and the
        check, can be timed once: on a slow machine short runs of all say more than long runs of
        a few."""
        self._scale = 1.0
        runs_s = sum(
            self._guess_s(stage)
            for stage in stages
            for settings in stage.candidates(best, self._machine)
            if not self._is_slow(settings)
        )
        needed_s = runs_s + _SAFETY * self._check_s(best)
        left_s = max(self._deadline - self._clock(), 0.0)
        return min(1.0, left_s / (_SAFETY * needed_s)) if needed_s else 1.0

    def _is_slow(self, settings: Settings) -> bool:
        """Whether the last run tells that these could not be chosen, as callers would wait."""
        return self._last is not None and is_slow_step(settings, {settings: self._last})

    def _scaled(self, stage: Stage) -> Stage:
        prompt = max(round(stage.prompt * self._scale), LEAST_PROMPT)
        answer = max(round(stage.answer * self._scale), LEAST_ANSWER) if stage.answer else 0
        return replace(stage, prompt=min(prompt, stage.prompt), answer=min(answer, stage.answer))

    def _guess_s(self, stage: Stage) -> float:
        """Estimates the seconds of a stage's run from the last run with the best settings."""
        if self._last is None or not self._last.decode:
            return 0.0
        return stage.prompt / self._last.prefill + stage.answer / self._last.decode
