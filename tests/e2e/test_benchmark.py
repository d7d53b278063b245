"""`python -m benchmarks.serve`: that it measures what it says, on a model of a few MB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.serve import bare_loop
from benchmarks.serve.loop_report import Stream, UnusableRoundError, steady_rate
from tests.support.models import ROOT, tiny_llama3

pytestmark = [pytest.mark.e2e, pytest.mark.native, pytest.mark.http]

TOKENS = 48


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.serve", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("bench") / "report.json"
    small = ["--context-size=512", "--threads=1", "--rounds=2", f"--tokens={TOKENS}"]
    done = run(f"--model={tiny_llama3()}", "--clients=1", f"--json={path}", *small)
    assert done.returncode == 0, done.stderr
    return done.stdout, path


@pytest.fixture(scope="module")
def report(output: tuple[str, Path]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output[0].splitlines()[-1])
    return found


def test_the_json_line_comes_last_and_goes_to_the_file(
    output: tuple[str, Path], report: dict[str, Any]
) -> None:
    assert json.loads(output[1].read_text()) == report
    assert f"HTTP / bare loop: {report['scenarios'][0]['ratio']:.3f}" in output[0]


def test_both_sides_answer_the_same_prompts_with_the_same_number_of_tokens(
    report: dict[str, Any],
) -> None:
    (scenario,) = report["scenarios"]
    assert (scenario["clients"], scenario["rounds"], scenario["tokens"]) == (1, 2, TOKENS)
    assert scenario["bare"]["prompt_tokens"] == scenario["http"]["prompt_tokens"] == 64
    assert scenario["bare"]["cached_tokens"] == scenario["http"]["cached_tokens"] > 0
    assert scenario["same_texts"] == 2


def test_the_ratio_is_that_of_the_rounds(report: dict[str, Any]) -> None:
    (scenario,) = report["scenarios"]
    low, high = sorted(scenario["ratios"])
    assert (scenario["ratio_min"], scenario["ratio_max"]) == (low, high)
    assert low > 0
    assert scenario["ratio"] == pytest.approx((low + high) / 2)
    assert scenario["engine_log_tokens_per_s"] > 0
    assert scenario["engine_python_us_per_step"] > 0


def test_each_process_is_accounted_for(report: dict[str, Any]) -> None:
    assert list(report["memory"]) == ["server process", "engine process", "bare loop"]
    for process in report["memory"].values():
        assert 0 < process["pss"] <= process["rss"] <= process["peak_rss"]
    (scenario,) = report["scenarios"]
    assert set(scenario["http"]["cpu_ms_per_token"]) == {
        "server process",
        "engine process",
        "client",
    }
    assert report["threads"] == 1
    assert report["machine"]["build"].startswith("llama.cpp b")


def test_a_model_that_is_not_there_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    done = run(f"--model={tmp_path / 'none.gguf'}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "none.gguf" in done.stderr
    assert "Traceback" not in done.stderr


def stream(times: list[float], n_tokens: int | None = None) -> Stream:
    return Stream(0.0, times, n_tokens or len(times), 8, 0, "")


def test_the_rate_of_one_stream_counts_tokens_without_text_too() -> None:
    assert steady_rate([stream([1.0, 2.0, 3.0, 4.0, 5.0])]) == pytest.approx(1.0)
    assert steady_rate([stream([1.0, 2.0, 5.0], n_tokens=5)]) == pytest.approx(1.0)


def test_the_rate_of_many_is_taken_while_all_of_them_run() -> None:
    alone_first = stream([0.0, 0.1, 0.2, 1.0, 2.0, 3.0])
    alone_last = stream([1.0, 2.0, 3.0, 3.1, 3.2])
    assert steady_rate([alone_first, alone_last]) == pytest.approx(2.0)


def test_streams_that_do_not_overlap_are_of_no_use() -> None:
    with pytest.raises(UnusableRoundError, match="hardly overlapped"):
        steady_rate([stream([0.0, 1.0]), stream([2.0, 3.0])])
    with pytest.raises(UnusableRoundError, match="less than two tokens"):
        stream([1.0])


def test_the_bare_loop_wants_a_model_first() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", bare_loop.__name__],
        input=msgspec.json.encode(bare_loop.WritePrompt(1, 8)) + b"\n",
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert "the first order is a Setup" in json.loads(done.stdout)["error"]
