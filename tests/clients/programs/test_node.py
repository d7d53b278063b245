"""Packages of npm, each by a script of `node-light/` or `node-heavy/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.programs import environments
from tests.clients.programs.running import passes

NODE_OF_LANGCHAIN = 20


@pytest.mark.parametrize("provider", ["compatible", "openai"])
@pytest.mark.parametrize(("server", "script"), [("scripted", "loop"), ("smollm2", "real")])
def test_the_ai_sdk(
    server: str, script: str, provider: str, request: pytest.FixtureRequest, home: Path
) -> None:
    folder = environments.node("light")
    command = ["node", str(folder / f"{script}.mjs"), provider]
    passes(command, request.getfixturevalue(server), home)


@pytest.mark.heavy
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(("server", "part"), [("scripted", "loop"), ("smollm2", "real")])
def test_langchain(
    server: str, part: str, api: str, request: pytest.FixtureRequest, home: Path
) -> None:
    if environments.node_version() < NODE_OF_LANGCHAIN:
        pytest.skip(f"LangChain.js needs Node {NODE_OF_LANGCHAIN} or newer")
    folder = environments.node("heavy")
    command = ["node", str(folder / "langchain.mjs"), part, api]
    passes(command, request.getfixturevalue(server), home)
