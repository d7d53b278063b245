"""Coding agents from npm, each asked one thing. Their first bodies have 31 and 66 kB."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.clients.programs import environments
from tests.clients.programs.running import KEY, Done, Served, run
from tests.support import models
from tests.support.real_server import RealServer

pytestmark = pytest.mark.heavy

LIMIT_S = 500.0
NODE_OF_QWEN = 20
PROMPT = "Say hello. Use no tools."
REQUEST = re.compile(r"INFO req_[0-9a-f]{16} (\d+)(?: prompt=(\d+))?")


def served(server: RealServer) -> Served:
    return Served(base_url=f"{server.url}/v1", model=models.TINY.stem)


def check(done: Done, server: RealServer, begin: int, least: int) -> None:
    """The program has printed something, and each of its requests was answered. The longest prompt
    has at least so many tokens."""
    assert done.code == 0, f"{done}\n{server.log[begin:]}"
    assert done.output.strip(), done
    requests = REQUEST.findall(server.log[begin:])
    assert requests, server.log[begin:]
    assert {status for status, _ in requests} == {"200"}, server.log[begin:]
    assert max(int(tokens or 0) for _, tokens in requests) >= least, requests


def test_opencode(roomy: RealServer, home: Path) -> None:
    folder = environments.node("heavy")
    # One for each kind of CPU; of those that npm found fitting, the one for older CPUs too.
    program = min(folder.glob("node_modules/opencode-linux-*/bin/opencode"))
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "sheily",
        "options": {"baseURL": f"{roomy.url}/v1", "apiKey": KEY},
        "models": {models.TINY.stem: {"name": models.TINY.stem}},
    }
    settings = {"provider": {"sheily": provider}, "autoupdate": False, "share": "disabled"}
    config = home / ".config" / "opencode" / "opencode.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(settings))
    begin = len(roomy.log)
    command = [str(program), "run", "--model", f"sheily/{models.TINY.stem}", PROMPT]
    silent = {
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    }
    done = run(command, served(roomy), home, limit_s=LIMIT_S, **silent)
    check(done, roomy, begin, 5000)


def test_qwen_code(roomy: RealServer, home: Path) -> None:
    if environments.node_version() < NODE_OF_QWEN:
        pytest.skip(f"qwen-code needs Node {NODE_OF_QWEN} or newer")
    folder = environments.node("heavy")
    settings = {
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False},
    }
    config = home / ".qwen" / "settings.json"
    config.parent.mkdir()
    config.write_text(json.dumps(settings))
    begin = len(roomy.log)
    command = ["node", "node_modules/@qwen-code/qwen-code/cli.js", "--auth-type", "openai"]
    command[1] = str(folder / command[1])
    command += ["--model", models.TINY.stem, PROMPT]
    # It would go to the server through a proxy too.
    done = run(command, served(roomy), home, limit_s=LIMIT_S, HTTPS_PROXY="")
    check(done, roomy, begin, 10000)
