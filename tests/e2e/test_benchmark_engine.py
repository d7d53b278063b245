"""`python -m benchmarks.engine`: that it measures what it says, on a model of a few MB.

The peers are programs of a few lines: building them takes minutes.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common.report import BenchmarkError
from benchmarks.engine.worker import Decode, Peak, Prefill, Setup, Steps, Worker
from sheily_native import kernels
from tests.support.models import ROOT, tiny_llama3

pytestmark = [pytest.mark.e2e, pytest.mark.native, pytest.mark.timeout(300)]

COMMAND = (sys.executable, "-m", "benchmarks.engine")
SMALL = (
    *("--prefill=64", "--decode=8", "--sequences=3", "--threads=1", "--noise=99"),
    *("--bound-seconds=0.02", "--bound-mib=16"),
)

LLAMA_BENCH = """
import json, sys
values = dict(zip(sys.argv[1::2], sys.argv[2::2]))
prompt, decode, depth = (int(values[name]) for name in ("-p", "-n", "-d"))
assert (values["-lm"], values["-o"], values["-r"]) == ("none", "json", "1")
record = {"n_prompt": prompt, "n_gen": decode, "n_depth": depth, "n_threads": int(values["-t"])}
rate = 100.0 if prompt else 10.0 if not depth else 5.0
print(json.dumps([{**record, "model_n_params": 1, "samples_ts": [rate]}]))
"""
LLAMA_QUANTIZE = """
import shutil, sys
assert sys.argv[1] == "--allow-requantize"
shutil.copy(sys.argv[2], sys.argv[3])
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Two rounds against both peers that need no installation."""
    folder = tmp_path_factory.mktemp("engine")
    bench = program(folder, "llama-bench", LLAMA_BENCH)
    against = ("--against=stock", "--against=llama-bench", f"--llama-bench={bench}", "--long=32")
    path = folder / "report.json"
    done = run(f"--model={tiny_llama3()}", f"--json={path}", "--rounds=2", *against, *SMALL)
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
    assert "sheily_native / llama-bench" in output[0]


def test_each_figure_stands_between_two_bounds(report: dict[str, Any]) -> None:
    assert [list(round_) for round_ in report["rounds"]] == [["llama-bench", "ours", "stock"]] * 2
    for round_ in report["rounds"]:
        for turn in round_.values():
            for kind in ("decode", "long_decode"):
                assert turn[kind]["rate"] > 0
                assert len(turn[kind]["bounds"]) == 2
            assert turn["prefill"]["rate"] > 0
            assert len(turn["prefill"]["bounds"]) == (2 if kernels.usable() else 0)


def test_bounds_are_what_was_measured_over_what_a_token_costs(report: dict[str, Any]) -> None:
    bounds = report["bounds"]
    assert 8_800_000 < bounds["bytes_a_token"] < 8_900_000  # the file without its vocabulary
    shallow = [turn["decode"]["bounds"] for one in report["rounds"] for turn in one.values()]
    most = max(bound for pair in shallow for bound in pair)
    memory = bounds["memory"]
    assert memory["low"] / bounds["bytes_a_token"] <= most * 1.001
    assert most <= memory["high"] / bounds["bytes_a_token"] * 1.001
    assert sorted(bounds["integer"]) == sorted(filter(None, [report["kernel"]]))


def test_the_peer_s_figures_are_those_it_printed(report: dict[str, Any]) -> None:
    peer = report["contestants"]["llama-bench"]
    assert peer["prefill"] == {"median": 100.0, "low": 100.0, "high": 100.0}
    assert peer["decode"]["median"] == 10.0
    assert peer["long_decode"]["median"] == 5.0
    ours = [round_["ours"]["decode"]["rate"] / 10 for round_ in report["rounds"]]
    comparison = {one["peer"]: one for one in report["comparisons"]}["llama-bench"]
    assert sorted(ours) == [comparison["decode"]["low"], comparison["decode"]["high"]]


def test_our_turns_have_steps_load_and_memory(report: dict[str, Any]) -> None:
    for name in ("ours", "stock"):
        for turn in (round_[name] for round_ in report["rounds"]):
            assert turn["steps"]["n_sequences"] == 3
            assert turn["steps"]["many_s"] > 0
            assert turn["steps"]["one_s"] > 0
            assert turn["load_s"] > 0
            assert turn["memory"]["peak_rss"] >= turn["memory"]["rss"] > turn["resident_floor"]
            # 4096 cells of 2 layers, 2 KV heads of 32 values, keys and values, 2 bytes each
            kv_bytes = 4096 * 2 * 2 * 32 * 2 * 2
            assert turn["resident_floor"] == tiny_llama3().stat().st_size + kv_bytes


def test_what_was_asked_is_answered(report: dict[str, Any]) -> None:
    names = [verdict["name"] for verdict in report["verdicts"]]
    assert names[0] == "decode, against llama-bench"
    assert "load time, against stock without mmap" in names
    assert not [name for name in names if "AVX2" in name or "OpenVINO" in name]


def test_formats_are_measured_against_the_stock_kernels(tmp_path: Path) -> None:
    quantize = program(tmp_path, "llama-quantize", LLAMA_QUANTIZE)
    done = run(
        *(f"--model={tiny_llama3()}", "--formats", "--rounds=1", *SMALL),
        *(f"--llama-quantize={quantize}", f"--scratch={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert [one["name"] for one in report["formats"]] == ["Q4_K_M", "Q4_0", "Q6_K", "F16"]
    for one in report["formats"]:
        assert one["against_stock"]["decode"]["median"] == pytest.approx(
            one["ours"]["decode"]["median"] / one["stock"]["decode"]["median"]
        )
        assert one["ours"]["decode_of_bound"]["median"] > 0
    assert len(report["verdicts"]) == 8
    assert len(list((tmp_path / "formats").iterdir())) == 4


def test_a_model_that_is_not_there_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    done = run(f"--model={tmp_path / 'none.gguf'}", "--against=stock")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "none.gguf" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_peer_that_is_not_installed_is_an_error_that_says_what_to_add(tmp_path: Path) -> None:
    arguments = (f"--model={tiny_llama3()}", f"--scratch={tmp_path}")
    done = run(*arguments, "--against=openvino")
    assert done.returncode == 1
    assert "--with-openvino" in done.stderr
    done = run(*arguments, "--against=stock", f"--openvino-python={sys.executable}")
    assert done.returncode == 1
    assert "openvino-genai" in done.stderr


def test_sigterm_ends_the_children_too() -> None:
    arguments = (*COMMAND, f"--model={tiny_llama3()}", "--against=stock", "--rounds=999", *SMALL)
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pids: list[str] = []
    while len(pids) < 2:  # the one that measures the bounds, and a contestant
        assert process.poll() is None
        pids = children.read_text().split()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_worker_says_what_went_wrong() -> None:
    with Worker("it") as worker:
        with pytest.raises(BenchmarkError, match="it failed: InvalidArgumentError: there is no"):
            worker.order(Peak("none", 1, 0.01))
        with pytest.raises(BenchmarkError, match="the first order is a Setup"):
            worker.order(Decode(1))
        assert worker.order(Setup(str(tiny_llama3()), 1, "off")).kernel is None
        assert worker.order(Prefill(600)).seconds > 0  # more than a batch
        assert worker.order(Decode(2, depth=3)).seconds > 0
        assert worker.order(Steps(8, 1)).many_s > 0


def test_a_worker_that_dies_or_babbles_is_an_error() -> None:
    with (
        Worker("it", (sys.executable, "-c", "raise SystemExit(7)")) as worker,
        pytest.raises(BenchmarkError, match="it died with status 7"),
    ):
        worker.order(Decode(1))
    babble = "import sys; sys.stdin.readline(); print('hello', flush=True); sys.stdin.read()"
    with (
        Worker("it", (sys.executable, "-c", babble)) as worker,
        pytest.raises(BenchmarkError, match="it answered b'hello"),
    ):
        worker.order(Decode(1))
