"""`python -m benchmarks.serve --scenarios` and `--against`, on a model of a few MB.

The peer is our own server behind the other one's flags: building a peer takes minutes.
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

from benchmarks.serve.contestants import has_speculation
from benchmarks.serve.report import SCENARIOS
from tests.support import processes
from tests.support.models import ROOT, tiny_llama3
from tools.server_process import descendants

pytestmark = [pytest.mark.e2e, pytest.mark.native, pytest.mark.http, pytest.mark.timeout(300)]

COMMAND = (sys.executable, "-m", "benchmarks.serve")
SMALL = (
    *("--context-size=2048", "--threads=1", "--tokens=6", "--long-answer=12", "--rounds=1"),
    *("--minutes=0.02", "--rate=3"),
)
PEER = """
import os, sys
assert sys.argv[1:3] == ["--jinja", "--no-ui"]
values = dict(zip(sys.argv[3::2], sys.argv[4::2]))
parallel = int(values["--parallel"])
size = int(values["--ctx-size"]) // parallel
command = [sys.executable, "-m", "sheily_server", "--model-path", values["--model"]]
command += ["--context-size", str(size), "--parallel", str(parallel), "--max-tokens", "1000"]
for name in ("--port", "--host", "--threads", "--timeout"):
    command += [name, values[name]]
os.execv(sys.executable, command)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, f"--model={tiny_llama3()}", *SMALL, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def program(folder: Path, text: str) -> Path:
    path = folder / "llama-server"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Our server in every scenario that can be measured."""
    path = tmp_path_factory.mktemp("serve") / "report.json"
    names = [name for name in SCENARIOS if has_speculation() or name != "no-repetition"]
    done = run("--scenarios", *names, f"--json={path}")
    assert done.returncode == 0, done.stderr
    return done.stdout, path


@pytest.fixture(scope="module")
def report(alone: tuple[str, Path]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(alone[0].splitlines()[-1])
    return found


def test_the_json_line_comes_last_and_goes_to_the_file(
    alone: tuple[str, Path], report: dict[str, Any]
) -> None:
    assert json.loads(alone[1].read_text()) == report
    assert "single: one client, a short prompt" in alone[0]


def test_every_scenario_was_asked_as_it_says(report: dict[str, Any]) -> None:
    ours = report["rounds"][0]["ours"]["scenarios"]
    asked = {name: (one["n_answers"], one["n_tokens"]) for name, one in ours.items()}
    assert asked["single"] == (1, 6)
    assert asked["long-prompt"] == (1, 4)
    assert asked["four-turns"] == (4, 24)
    assert asked["clients-8"] == asked["shared-system"] == (8, 128)
    n_couples = 3 if has_speculation() else 1
    assert asked["copy-heavy"] == asked["prediction"] == (n_couples, 12 * n_couples)
    assert asked["long-beside-streams"] == (1, 4)
    assert asked["mixed"][0] >= 1
    for one in ours.values():
        assert one["short_answers"] == 0
        assert 0 < one["first_p50_s"] <= one["first_p95_s"] <= one["wall_s"]


def test_prompt_tokens_are_those_that_were_computed(report: dict[str, Any]) -> None:
    ours = report["rounds"][0]["ours"]["scenarios"]
    assert 390 <= ours["long-prompt"]["computed_tokens"] <= 435
    assert 950 <= ours["long-beside-streams"]["computed_tokens"] <= 1000
    assert ours["shared-system"]["computed_tokens"] >= 300
    assert ours["prediction"]["computed_tokens"] <= 3 * 8  # the same prompt as before
    assert len(ours["four-turns"]["turn_first_s"]) == 4


def test_streams_have_gaps_beside_the_long_prompt_and_ordinary_ones(report: dict[str, Any]) -> None:
    one = report["rounds"][0]["ours"]["scenarios"]["long-beside-streams"]
    assert one["ordinary_gap_s"] > 0
    assert one["gap_p99_s"] >= one["gap_p50_s"] > 0
    assert "long-beside-streams: streams' p99 gap over their ordinary one" in [
        verdict["name"] for verdict in report["verdicts"]
    ]


def test_our_memory_is_that_of_both_processes(report: dict[str, Any]) -> None:
    memory = report["memory"]["ours"]
    assert tiny_llama3().stat().st_size < memory["pss"] <= memory["rss"] <= memory["peak_rss"]


@pytest.mark.skipif(not has_speculation(), reason="the server has no --speculation")
def test_speculation_is_measured_against_itself(report: dict[str, Any]) -> None:
    turns = report["rounds"][0]
    assert set(turns["ours-plain"]["scenarios"]) == {"copy-heavy", "prediction", "no-repetition"}
    assert list(turns["ours"]["scenarios"]) == list(SCENARIOS)
    assert turns["ours"]["scenarios"]["prediction"]["plain_per_s"] > 0
    for name in ("copy-heavy", "prediction", "no-repetition"):
        for side in ("ours", "ours-plain"):
            assert len(turns[side]["scenarios"][name]["rates"]) == 3
    assert list(report["memory"]) == ["ours"]
    assert "--parallel 8" in report["contestants"]["ours"]
    assert "--parallel 1" in report["contestants"]["ours-plain"]
    names = [verdict["name"] for verdict in report["verdicts"]]
    assert "prediction: decode speed, against speculation off" in names
    assert "no-repetition: decode speed, on / off" in names


def test_a_peer_is_asked_the_same_and_compared(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    peer = program(tmp_path, PEER)
    picture = tmp_path / "servers.svg"
    done = run(
        *("--against=llama-server", f"--llama-server={peer}", f"--plot={picture}", "--rounds=2"),
        *("--scenarios", "single", "clients-8", "prediction"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert len(report["rounds"]) == 2
    for turns in report["rounds"]:
        assert set(turns["llama-server"]["scenarios"]) == {"single", "clients-8"}
        assert turns["llama-server"]["scenarios"]["clients-8"]["n_tokens"] == 128
    verdicts = {verdict["name"]: verdict for verdict in report["verdicts"]}
    ratio = verdicts["single: decode speed, against llama-server"]
    assert ratio["asked"] == 1.85
    assert ratio["seen"]["low"] > 0
    assert verdicts["resident memory, against llama-server"]["asked"] == 1.1
    assert picture.read_text().startswith("<?xml")


def test_a_peer_that_does_not_load_is_an_error_where_it_was_asked_for(tmp_path: Path) -> None:
    peer = program(tmp_path, "raise SystemExit('unknown architecture')")
    arguments = (f"--llama-server={peer}", "--scenarios", "single")
    done = run("--against=llama-server", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: llama-server did not start; its log ends: ")
    assert "unknown architecture" in done.stderr
    done = run("--against=all", f"--llama-cpp-python={tmp_path / 'none'}", *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert list(report["contestants"]) == ["ours"]
    assert [note.split(":")[0] for note in report["notes"]] == [
        "without llama-server",
        "without llama-cpp-python",
    ]


def test_a_model_that_is_not_there_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    done = run(f"--model={tmp_path / 'none.gguf'}", "--scenarios", "single")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "none.gguf" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_no_server(sent: signal.Signals, status: int) -> None:
    arguments = (*COMMAND, f"--model={tiny_llama3()}", *SMALL, "--minutes=5")
    process = subprocess.Popen(
        processes.hearing_interrupts([*arguments, "--scenarios", "mixed"]),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    pids: list[int] = []
    try:
        while len(pids) < 2:  # the server and its engine
            assert process.poll() is None
            pids = descendants(process.pid)
            time.sleep(0.05)
        process.send_signal(sent)
        assert process.wait(60) == status
    finally:
        process.kill()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
