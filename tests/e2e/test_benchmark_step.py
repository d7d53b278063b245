"""Python's part of a step, measured on the small shape."""

from __future__ import annotations

import json

import pytest

from benchmarks.micro import step_python
from tests.support import models


def test_python_s_part_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    model = str(models.tiny_llama3())
    assert step_python.main(["--model", model, "--sequences", "3", "--steps", "5"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["sequences"], found["steps"]) == (3, 5)
    assert 0 < found["python_ms"] < found["step_ms"]
    assert 0 < found["part"] < 1


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert step_python.main(["--model", "/nowhere/m.gguf"]) == 1
    assert "/nowhere/m.gguf" in capsys.readouterr().err
