"""The tuner's search with a bench of made-up speeds: what it finds, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from sheily_native import DecodeError, ModelLoadError, OutOfMemoryError
from sheily_native.tune.plan import DEFAULT, Figures, Machine, Settings, Stage
from sheily_native.tune.search import ROUNDS, Outcome, Row, Search

MACHINE = Machine(n_threads=4, kernels=["avx2", "off"])
Speed = Callable[[Settings], float]
"""How many times faster than the defaults."""


class FakeBench:
    """Runs take what their tokens take at 100 and 10 tokens a second, times the speed; a load
    takes 5 s. It is the clock, too."""

    def __init__(self, speed: Speed, problems: dict[Settings | str, Exception]) -> None:
        self.now = 0.0
        self.runs: list[Settings] = []
        self.loads: list[str] = []
        self._speed = speed
        self._problems = problems

    def load(self, kernel: str) -> None:
        if self.loads[-1:] == [kernel]:
            return
        self.now += 5
        if kernel in self._problems:
            raise self._problems[kernel]
        self.loads.append(kernel)

    def run(self, settings: Settings, prompt: int, answer: int) -> Figures:
        assert self.loads[-1] == settings.kernel
        self.runs.append(settings)
        speed = self._speed(settings)
        self.now += prompt / (100 * speed) + answer / (10 * speed)
        if settings in self._problems:
            raise self._problems[settings]
        return Figures(100 * speed, 10 * speed if answer else None)

    def rest(self) -> None:
        pass


class Rows:
    """What an observer was told."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, Settings]] = []
        self.rows: dict[str, Sequence[Row]] = {}
        self.winners: dict[str, Settings] = {}

    def before(self, stage: Stage, settings: Settings) -> None:
        self.begun.append((stage.name, settings))

    def after(self, stage: Stage, rows: Sequence[Row], winner: Settings) -> None:
        self.rows[stage.name] = rows
        self.winners[stage.name] = winner


def search(
    speed: Speed = lambda settings: 1.0,
    seconds: float = 1000.0,
    problems: dict[Settings | str, Exception] | None = None,
    machine: Machine = MACHINE,
) -> tuple[Outcome, FakeBench, Rows]:
    bench, rows = FakeBench(speed, problems or {}), Rows()
    outcome = Search(bench, machine, rows, clock=lambda: bench.now, deadline=seconds).run()
    return outcome, bench, rows


def test_where_all_are_equal_the_defaults_stay_and_nothing_is_checked() -> None:
    outcome, bench, rows = search()
    assert outcome == Outcome(DEFAULT, Figures(100, 10), Figures(100, 10))
    assert list(rows.rows) == ["kernel", "threads", "chunk", "KV type"]
    assert bench.loads == ["off", "avx2", "auto"]


def faster(**better: object) -> Speed:
    """Each of these settings doubles the speed."""

    def speed(settings: Settings) -> float:
        n = sum(getattr(settings, name) == value for name, value in better.items())
        return float(2**n)

    return speed


@pytest.mark.parametrize(
    "best",
    [
        Settings(kernel="avx2"),
        Settings(threads=3),
        Settings(chunk=64),
        Settings(kv_type="q8_0"),
        Settings("off", 2, 256, "q8_0"),
    ],
)
def test_what_is_faster_is_found(best: Settings) -> None:
    differences = {
        name: getattr(best, name)
        for name in Settings.__slots__
        if getattr(best, name) != getattr(DEFAULT, name)
    }
    outcome, _, rows = search(faster(**differences))
    n = len(differences)
    assert outcome == Outcome(best, Figures(100 * 2**n, 10 * 2**n), Figures(100, 10))
    assert rows.winners["check"] == best


def test_rows_come_in_the_order_of_the_candidates_with_their_figures() -> None:
    _, _, rows = search(faster(kernel="avx2"))
    assert rows.rows["kernel"] == [
        Row(Settings(kernel="off"), Figures(100, 10), "no time left"),
        Row(Settings(kernel="avx2"), Figures(200, 20), "no time left"),
        Row(DEFAULT, Figures(100, 10), "no time left"),
    ]


@pytest.mark.parametrize("slowness", [3, 6])
def test_on_a_slow_machine_runs_are_shorter_and_no_candidate_is_left_out(slowness: int) -> None:
    """With runs of full length most rows were "no time left"."""
    _, bench, rows = search(lambda settings: 1 / slowness, seconds=160)
    untimed = [row for stage in rows.rows.values() for row in stage if row.figures is None]
    assert {(row.settings.chunk, row.problem) for row in untimed} == {
        (chunk, "its steps would take too long") for chunk in (256, 512)
    }
    assert bench.now <= 160


def test_candidates_take_turns_and_the_hopeless_only_one() -> None:
    def speed(settings: Settings) -> float:
        return 0.5 if settings.threads == 2 else 1.0

    _, bench, _ = search(speed)
    threads = [settings.threads for settings in bench.runs[3 * ROUNDS :]]
    assert threads[:7] == [0, 3, 2, 0, 3, 0, 3]


@pytest.mark.parametrize("seconds", [40, 60, 90, 150, 300])
def test_the_time_is_kept(seconds: float) -> None:
    _, bench, _ = search(seconds=seconds)
    assert bench.now <= seconds


@pytest.mark.parametrize("seconds", [40, 60, 90, 150, 300])
@pytest.mark.parametrize("best", [Settings(kernel="off"), Settings("avx2", 3, 64)])
def test_what_is_slower_than_expected_takes_one_run_more_at_most(
    seconds: float, best: Settings
) -> None:
    _, bench, _ = search(lambda settings: 1.0 if settings == best else 0.5, seconds)
    assert bench.now <= seconds + 512 / 50 + 16 / 5


@pytest.mark.parametrize("seconds", range(40, 120, 4))
def test_time_is_kept_for_the_check(seconds: float) -> None:
    best = Settings(threads=3)
    outcome, bench, rows = search(lambda settings: 1.2 if settings == best else 1.0, seconds)
    assert outcome.settings == best
    assert [row.figures is None for row in rows.rows["check"]] == [False, False]
    assert bench.now <= seconds


def test_with_no_time_at_all_the_defaults_are_timed_once() -> None:
    outcome, bench, rows = search(seconds=0)
    assert bench.runs == [DEFAULT]
    assert outcome == Outcome(DEFAULT, Figures(100, 10), Figures(100, 10))
    assert [row.problem for row in rows.rows["chunk"]] == ["no time left"] * 5
    assert all(row.figures is None for row in rows.rows["chunk"])


def test_what_cannot_be_confirmed_in_time_is_not_taken() -> None:
    outcome, bench, _ = search(faster(kernel="avx2"), seconds=29)
    assert bench.now <= 29
    assert outcome.settings == DEFAULT
    assert outcome.figures == outcome.default == Figures(100, 10)
    assert outcome.rejected == Settings(kernel="avx2")
    assert "time" in outcome.reason


def test_what_is_no_faster_when_timed_again_is_not_taken() -> None:
    runs: list[Settings] = []

    def speed(settings: Settings) -> float:
        """The default is slow until something of another kernel ran: a disturbed machine."""
        runs.append(settings)
        disturbed = settings == DEFAULT and len(runs) <= 3 * ROUNDS
        return 0.5 if disturbed else 1.0

    outcome, _, _ = search(speed)
    assert (outcome.settings, outcome.default) == (DEFAULT, Figures(100, 10))
    assert outcome.rejected is not None
    assert "no faster" in outcome.reason


def test_what_fails_is_left_out_with_its_reason() -> None:
    q8_0 = Settings(kv_type="q8_0")
    outcome, bench, rows = search(
        faster(kv_type="q8_0"),
        problems={q8_0: OutOfMemoryError("no cells"), "avx2": OutOfMemoryError("no weights")},
    )
    assert outcome.settings == DEFAULT
    assert rows.rows["KV type"][1] == Row(q8_0, None, "no cells")
    assert rows.rows["kernel"][1] == Row(Settings(kernel="avx2"), None, "no weights")
    assert bench.runs.count(q8_0) == 1


@pytest.mark.parametrize(
    ("where", "error"),
    [
        (DEFAULT, DecodeError("broken")),
        ("auto", OutOfMemoryError("too big")),
        ("off", ModelLoadError("cut short")),
    ],
)
def test_without_the_defaults_or_the_model_there_is_nothing_to_find(
    where: Settings | str, error: Exception
) -> None:
    with pytest.raises(type(error), match=str(error)):
        search(problems={where: error})


def test_a_machine_without_choices() -> None:
    outcome, bench, _ = search(machine=Machine(1, []))
    assert outcome.settings == DEFAULT
    assert bench.loads == ["auto"]


def test_blas_may_win_with_a_long_step() -> None:
    best = Settings(kernel="off", chunk=512)
    outcome, _, rows = search(
        lambda settings: 3.0 if settings == best else 1.0,
        machine=replace(MACHINE, blas=True),
    )
    assert rows.rows["kernel"][0].settings == best
    assert outcome.settings == best


def test_what_is_about_to_be_timed_is_told() -> None:
    _, bench, rows = search(seconds=0)
    assert rows.begun == [("kernel", DEFAULT)] * 2  # its load, and its run
    assert bench.now > 0
