"""A real engine that is unloaded, and loaded again for the next request."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.asking import complete, post
from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import until
from tools.server_process import descendants

MOST_ASLEEP_MB = 200
"""Twice what is asked; `benchmarks.idle` measures."""
ASK = {
    "temperature": 0,
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "Name a river."}],
}


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) / 1000


def test_a_model_is_unloaded_and_loaded_again() -> None:
    with RealServer(models.tiny_llama3(), idle_unload=1) as server:
        server.wait_for_state("ready")
        # A grammar has the compilers' process begin.
        assert complete(server, max_tokens=2, response_format={"type": "json_object"}).status == 200
        awake = post(server, "/v1/chat/completions", ASK).text
        server.wait_for_state("sleeping")
        until(lambda: not descendants(server.process.pid))
        until(lambda: "sleeping: no request came" in server.log)
        assert rss_mb(server.process.pid) < MOST_ASLEEP_MB
        assert post(server, "/v1/chat/completions", ASK).text == awake
        assert "waking: a request came" in server.log
        server.wait_for_state("sleeping")
        tokens = post(server, "/tokenize", {"text": "Name a river."})
        assert (tokens.status, tokens.body["count"] > 0) == (200, True)
        assert server.health()["engine_restarts"] == 0
        assert server.stop() == 0
