"""Packages for Python, each by a program of `python/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.programs import environments
from tests.clients.programs.running import passes

HERE = Path(__file__).parent
LIGHT = [
    "scripted openai_agents_loop chat",
    "scripted openai_agents_loop responses",
    "smollm2 openai_agents_real chat",
    "smollm2 openai_agents_real responses",
    "scripted pydantic_ai_loop openai-chat",
    "scripted pydantic_ai_loop openai",
    "smollm2 pydantic_ai_real openai-chat",
    "smollm2 pydantic_ai_real openai",
    "smollm2 litellm_all",
    "smollm2 litellm_responses",
    "smollm2 instructor_bound",
    "scripted instructor_told",
    "smollm2 instructor_responses",
]
HEAVY = ["smollm2 llama_index_real", "scripted llama_index_loop"]


def check(line: str, half: str, request: pytest.FixtureRequest, home: Path) -> None:
    server, program, *arguments = line.split()
    python = environments.python(half)
    command = [str(python), str(HERE / "python" / f"{program}.py"), *arguments]
    passes(command, request.getfixturevalue(server), home)


@pytest.mark.parametrize("line", LIGHT)
def test_light(line: str, request: pytest.FixtureRequest, home: Path) -> None:
    check(line, "light", request, home)


@pytest.mark.heavy
@pytest.mark.parametrize("line", HEAVY)
def test_heavy(line: str, request: pytest.FixtureRequest, home: Path) -> None:
    check(line, "heavy", request, home)


def test_every_program_is_run() -> None:
    run = {line.split()[1] for line in LIGHT + HEAVY}
    assert {path.stem for path in (HERE / "python").glob("*.py")} == run
