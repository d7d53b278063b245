"""`python -m sheily_native.tune` on a tiny model: its table, its file, what it refuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sheily_native import InvalidArgumentError, kernels
from sheily_native.build import build_info
from sheily_native.tune.__main__ import main
from sheily_native.tune.measure import Bench
from sheily_native.tune.plan import Settings
from sheily_server.config import load
from tests.support import models, processes
from tests.support.models import ROOT


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned.json"
    model = models.tiny_llama3()
    assert main([str(model), "--out", str(out), "--seconds", "5"]) == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    for words in (
        build_info().cpu_model,
        "GB/s",
        "kernel   off",
        "threads",
        "chunk",
        "KV type",
        "q8_0",
        "512",
        "Best: ",
        f"--model-path {model} --tuned {out}",
        "cmake.define.GGML_NATIVE",
    ):
        assert words in printed
    for name in kernels.usable():
        assert f" {name} " in printed or f"auto ({name})" in printed
    content = json.loads(out.read_text())
    assert content["cpu"] == build_info().cpu_model
    assert content["model"] == model.name
    assert content["measured"]["prefill_tokens"] > content["measured"]["decode_tokens"] > 0
    config = load(["--tuned", str(out)], {})
    assert {name: getattr(config, name) for name in content["settings"]} == content["settings"]


def test_kernels_are_for_q8_0_and_are_not_compared_for_other_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned.json"
    assert main([str(models.smollm2()), "--out", str(out), "--seconds", "5"]) == 0
    printed = capsys.readouterr().out
    assert "most are not Q8_0" in printed
    assert "kernel   off" in printed
    table = printed.partition("tokens/s")[2]
    auto = re.findall(r"auto \((\w+)\)", table)[0]
    for name in set(kernels.usable()) - {auto}:
        assert f" {name} " not in table


def test_with_hardly_any_time_the_defaults_are_written(tmp_path: Path) -> None:
    out = tmp_path / "tuned.json"
    assert main([str(models.tiny_llama3()), "--out", str(out), "--seconds", "0.01"]) == 0
    assert json.loads(out.read_text())["settings"] == {
        "kernel": "auto",
        "threads": 0,
        "chunk": 128,
        "kv_type": "f16",
    }


def test_on_a_terminal_it_says_what_is_being_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    out = tmp_path / "tuned.json"
    assert main([str(models.tiny_llama3()), f"--out={out}", "--seconds=0.1", "--kernels=off"]) == 0
    printed, errors = capsys.readouterr()
    assert "kernel: kernel auto" in errors
    assert "loading the model" in errors
    assert "loading" not in printed


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "short"])
def test_what_is_no_model_is_one_sentence(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.gguf"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("no model\n" * 100)
    elif kind == "short":
        path.write_bytes(models.tiny_llama3().read_bytes()[:-100_000])
    assert main([str(path), "--out", str(tmp_path / "t.json"), "--seconds", "1"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("sheily_native.tune: ")
    assert line.endswith(".")
    assert str(path) in line
    assert not (tmp_path / "t.json").exists()


def test_a_file_that_cannot_be_written_is_told_before_anything_is_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in (tmp_path, tmp_path / "none" / "t.json"):
        assert main([str(models.tiny_llama3()), "--out", str(out)]) == 1
        printed, errors = capsys.readouterr()
        assert printed == ""
        [line] = errors.splitlines()
        assert line.startswith(f"sheily_native.tune: cannot write {out}: ")


def test_arguments_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(models.tiny_llama3()), str(tmp_path / "t.json")
    assert main(["--out", out]) == 2
    assert "tools.make_gguf 3b" in capsys.readouterr().err
    assert main([model, "--out", out, "--kernels", "off,mmx"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot run the kernel 'mmx'" in line
    for seconds in ("0", "-1", "nan", "inf", "soon"):
        with pytest.raises(SystemExit) as exit:
            main([model, "--out", out, f"--seconds={seconds}"])
        assert exit.value.code == 2
        assert "--seconds" in capsys.readouterr().err


def test_ctrl_c_ends_it_with_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    command = [sys.executable, "-m", "sheily_native.tune", str(models.tiny_llama3())]
    process = subprocess.Popen(
        processes.hearing_interrupts([*command, "--out", str(out)]),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "tokens/s" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        [line] = process.stderr.read().splitlines()
    assert "nothing was written" in line
    assert not out.exists()


def test_a_bench_keeps_the_model_while_the_kernel_stays() -> None:
    loads: list[float] = []
    with Bench(models.tiny_llama3(), 1, loads.append) as bench:
        for settings in (Settings(), Settings(chunk=32), Settings(kv_type="q8_0")):
            figures = bench.run(settings, 100, 3)
            assert figures.prefill > 0
            assert figures.decode is not None
        assert loads.count(1.0) == 1
        assert bench.run(Settings(kernel="off"), 10, 0).decode is None
        assert loads.count(1.0) == 2
        assert bench.n_bytes > 1_000_000
        with pytest.raises(InvalidArgumentError, match="a run of 640 and 1 tokens is longer"):
            bench.run(Settings(), 640, 1)
