"""The Python client and its programs against a real model."""

from __future__ import annotations

import os
import subprocess
import sys

from sheily_server.client import LLMClient
from tests.support.models import ROOT
from tests.support.real_server import RealServer
from tests.support.waiting import WAIT

QUESTION = "Name the capital of France."


def run(server: RealServer, *arguments: str) -> str:
    command = [sys.executable, "-m", "sheily_server.client", *arguments, "--url", server.url]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done.stdout


def test_a_completion_and_its_pieces(smollm2_server: RealServer) -> None:
    prompt = "The capital of France is"
    with LLMClient(smollm2_server.url) as client:
        whole = client.complete(prompt, temperature=0, max_tokens=8)
        pieces = list(client.complete_stream(prompt, temperature=0, max_tokens=8))
    assert "Paris" in whole.text
    assert whole.finish_reason == "length"
    assert whole.usage["completion_tokens"] == 8
    assert "Paris" in "".join(pieces)
    assert len(pieces) > 1


def test_a_question_on_the_command_line(smollm2_server: RealServer) -> None:
    answer = run(smollm2_server, "ask", QUESTION, "--temperature", "0", "--max-tokens", "30")
    assert "Paris" in answer
