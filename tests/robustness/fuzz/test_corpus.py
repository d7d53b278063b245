"""Every input that is kept, and a short run of each target; `make fuzz` has the full amounts."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.robustness.fuzz import neighbours, running
from tests.robustness.fuzz.mutate import changed, mutated
from tests.robustness.fuzz.running import HangError, Target, UnplannedError
from tests.robustness.fuzz.targets import opened

SEED = 1
SHORT = {
    "bodies": 400,
    "http": 200,
    "grammars": 100,
    "text": 1000,
    "gguf": 400,
    "gguf-native": 100,
    "neighbours": 2,
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("bodies", marks=pytest.mark.http),
        pytest.param("http", marks=pytest.mark.http),
        pytest.param("grammars", marks=pytest.mark.native),
        pytest.param("text", marks=pytest.mark.native),
        "gguf",
        pytest.param("gguf-native", marks=pytest.mark.native),
        pytest.param("neighbours", marks=pytest.mark.e2e),
    ],
)
def test_kept_inputs_and_a_short_run(name: str) -> None:
    with opened(name) as target:
        for path in running.corpus("gguf" if name == "gguf-native" else name):
            running.checked(target, path.read_bytes())
        report = running.run(name, target, SHORT[name], SEED)
    assert report.n_failures == 0, report.json()
    assert report.cases == SHORT[name]


# --- the fuzzer itself ----------------------------------------------------------------------------


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(running, "FOUND", tmp_path)
    return tmp_path


def test_what_fails_is_counted_and_kept(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def check(data: bytes) -> str:
        if data == b"3":
            raise HangError
        if data == b"4":
            raise UnplannedError
        assert data != b"5"
        return "fine"

    cases = iter("0123456789")
    target = Target(lambda random: next(cases).encode(), check)
    report = running.run("mine", target, 10)
    assert (report.hangs, report.unplanned_500, report.crashes) == (1, 1, 1)
    assert report.outcomes == {"fine": 7}
    kept = {path.read_bytes() for path in (found / "mine").iterdir() if path.name != "current"}
    assert kept == {b"3", b"4", b"5"}
    assert capsys.readouterr().err.count("Traceback") == 3


def test_an_input_that_hangs_is_left(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def check(data: bytes) -> str:
        while True:
            pass

    target = Target(lambda random: b"x", check, hang_s=0.05)
    assert running.run("mine", target, 2, alarm=True).hangs == 2
    assert "0.05 s" in capsys.readouterr().err


def test_a_case_is_the_same_whatever_came_before() -> None:
    first = [running.random_of(1, case).random() for case in range(5)]
    assert [running.random_of(1, case).random() for case in (4, 3)] == first[:2:-1]
    assert running.random_of(2, 0).random() != first[0]


def test_an_answer_may_part_from_an_earlier_one_where_logprobs_are_alike() -> None:
    def token(text: str, logprob: float = -0.7, **others: float) -> neighbours.Token:
        top = {text.encode(): logprob} | {key.encode(): value for key, value in others.items()}
        return neighbours.Token(text.encode(), logprob, top, 0.0)

    def verdict(*found: neighbours.Token, greedy: bool = True) -> tuple[bool, bool]:
        result = neighbours.compared(first, found, greedy)
        return result.parted, not result.problem

    first = [token("a"), token("b", c=-0.8, d=-2.0)]
    assert verdict(*first) == (False, True)
    assert verdict(token("a"), token("c", -0.75, b=-0.8)) == (True, True)
    assert verdict(token("a"), token("d", -2.0, b=-0.7)) == (True, False)
    assert verdict(token("a"), token("d", -2.0, b=-0.7), greedy=False) == (True, True)
    assert verdict(token("a", -4.0), token("b"), greedy=False) == (False, False)
    assert verdict(token("a"), token("d", -0.1, b=-2.5)) == (True, False)
    assert verdict(token("a")) == (False, False)
    first = [token("a")] * neighbours.ENOUGH
    assert verdict(*[token("a", -1.0)] * neighbours.ENOUGH) == (False, False)


def test_changes_leave_the_original_alone() -> None:
    document = {"a": [1, {"b": [2, 3]}], "c": "d"}
    for seed in range(300):
        changed(document, Random(seed))
        assert document == {"a": [1, {"b": [2, 3]}], "c": "d"}
    data = bytes(range(50))
    assert sum(mutated(data, Random(seed)) != data for seed in range(100)) > 80
