"""`sheily bench` on a tiny model: its lines, its JSON, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sheily_native._busy import OtherPrograms
from sheily_native.tune.plan import Figures
from sheily_server.cli import bench
from sheily_server.config import Config
from tests.support import models

PROGRAM = "sheily bench"


def test_figures_of_each_round(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_CHUNK", "64")
    monkeypatch.setenv("LLM_THREADS", "1")
    model = models.tiny_llama3()
    assert bench.main([str(model), "--seconds", "0"], PROGRAM) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"model    {model.name}"
    assert lines[1].endswith(", 1 thread")
    assert "chunks of 64" in lines[2]
    assert bench.main([str(model), "--seconds", "0", "--json"], PROGRAM) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["threads"], found["chunk"]) == (1, 64)
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s"):
        assert len(found[name]) == bench.LEAST_ROUNDS
        assert min(found[name]) > 0


def test_rounds_that_differ_are_pointed_out() -> None:
    config = Config(model_path=Path("m.gguf"))
    equal = [Figures(100.0, 10.0)] * 3
    others = OtherPrograms(Path("/none"))
    assert "differ" not in "\n".join(bench._lines(config, equal, others))
    text = "\n".join(bench._lines(config, [*equal, Figures(100.0, 8.0)], others))
    assert "decode   10.0 tokens/s (8.0 to 10.0)" in text
    assert "The rounds differ much" in text


@pytest.mark.parametrize(("kind", "code"), [("missing", 2), ("text", 1), ("default", 1)])
def test_what_is_no_model_is_a_sentence(
    kind: str,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("LLM_MODEL_PATH", raising=False)
    path = tmp_path / "m.gguf"
    if kind == "text":
        path.write_text("no model")
    words = [] if kind == "default" else [str(path)]
    assert bench.main(words, PROGRAM) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sheily bench: The")
    assert (" fetch smollm2\n" in captured.err) == (kind == "default")


def test_a_setting_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_CHUNK", "many")
    assert bench.main([str(models.tiny_llama3())], PROGRAM) == 2
    assert "LLM_CHUNK" in capsys.readouterr().err
