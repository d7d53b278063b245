"""What breaks, and what the caller is told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sheily_server.client import LLMAPIError
from tests import models
from tests.real_server import RealServer, wait_for


def test_kill_9_of_the_engine_in_the_middle_of_a_stream() -> None:
    with RealServer(models.tiny_llama3(), context_size=2048, max_tokens=1900) as server:
        server.wait_for_state("ready")
        stream = server.client.stream("go on", max_tokens=1900, temperature=1)
        next(stream)
        os.kill(server.engine_pid(), signal.SIGKILL)
        with pytest.raises(LLMAPIError) as caught:
            for _ in stream:
                pass
        assert caught.value.code == "engine_crashed"
        assert "SIGKILL" in str(caught.value)
        wait_for(lambda: server.health()["engine_restarts"] == 1)
        server.wait_for_state("ready")
        assert server.client.chat("hello", max_tokens=3).usage["completion_tokens"] <= 3
        assert "SIGKILL" in server.log


def test_health_says_that_the_engine_is_restarting() -> None:
    with RealServer(models.tiny_llama3()) as server:
        server.wait_for_state("ready")
        states = set()
        os.kill(server.engine_pid(), signal.SIGKILL)
        wait_for(lambda: states.add(server.health()["state"]) or "restarting" in states)  # type: ignore[func-returns-value]
        health = server.health()
        if health["state"] == "restarting":
            assert "SIGKILL" in health["reason"]
        server.wait_for_state("ready")


def test_sigterm_ends_both_processes() -> None:
    server = RealServer(models.tiny_llama3())
    server.wait_for_state("ready")
    engine = server.engine_pid()
    assert server.stop() == 0
    wait_for(lambda: not Path(f"/proc/{engine}").exists(), 5)


def test_the_engine_leaves_when_its_parent_is_killed() -> None:
    server = RealServer(models.tiny_llama3())
    server.wait_for_state("ready")
    engine = server.engine_pid()
    server.process.kill()
    wait_for(lambda: not _alive(engine), 5)
    server.stop()


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_a_model_with_an_unknown_template(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    data = models.tiny_llama3().read_bytes()
    assert data.count(b"<|start_header_id|>") > 2
    # Same length, so the file stays whole; the vocabulary's own entry is changed with it.
    path.write_bytes(data.replace(b"<|start_header_id|>", b"<|other_header_id|>"))
    with RealServer(path) as server:
        server.wait_for_state("failed")
        reason = server.health()["reason"]
        assert "llama3" in reason
        assert "chatml" in reason
        with pytest.raises(LLMAPIError) as caught:
            server.client.chat("hello")
        assert caught.value.status == 500
        assert reason in str(caught.value)


def test_a_truncated_model(tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    data = models.tiny_llama3().read_bytes()
    path.write_bytes(data[: len(data) - 100_000])
    with RealServer(path) as server:
        server.wait_for_state("failed")
        assert str(path) in server.health()["reason"]
        with pytest.raises(LLMAPIError) as caught:
            server.client.chat("hello")
        assert (caught.value.status, caught.value.code) == (500, "model_unavailable")


def test_no_model_at_all(tmp_path: Path) -> None:
    path = tmp_path / "none.gguf"
    with RealServer(path) as server:
        server.wait_for_state("failed")
        assert str(path) in server.health()["reason"]
        with pytest.raises(LLMAPIError) as caught:
            server.client.chat("hello")
        assert caught.value.status == 500
        assert str(path) in str(caught.value)


def test_a_context_that_does_not_fit_into_memory() -> None:
    limited = RealServer(models.tiny_llama3(), 2 << 30, context_size=100_000, parallel=64)
    with limited as server:
        server.wait_for_state("failed")
        assert "memory" in server.health()["reason"] or "cells" in server.health()["reason"]
