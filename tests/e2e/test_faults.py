"""What breaks, and what the caller is told; robustness/faults breaks the engine under load."""

from __future__ import annotations

import os
import platform
import shutil
import signal
from pathlib import Path

import pytest

from sheily_server.client import LLMAPIError
from sheily_server.shell import to_a_model
from tests.e2e.asking import complete
from tests.support import models
from tests.support.processes import heaps_of_threads
from tests.support.real_server import RealServer
from tests.support.waiting import until


def test_health_says_that_the_engine_is_restarting() -> None:
    with RealServer(models.tiny_llama3()) as server:
        server.wait_for_state("ready")
        states = set()
        os.kill(server.engine_pid(), signal.SIGKILL)
        until(lambda: states.add(server.health()["state"]) or "restarting" in states)  # type: ignore[func-returns-value]
        health = server.health()
        if health["state"] == "restarting":
            assert "SIGKILL" in health["reason"]
        server.wait_for_state("ready")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heaps of glibc")
def test_no_thread_has_a_heap_of_its_own(llama3_server: RealServer) -> None:
    assert complete(llama3_server, max_tokens=2).status == 200
    for pid in (llama3_server.process.pid, llama3_server.engine_pid()):
        assert heaps_of_threads(pid) == 0


def test_sigterm_ends_both_processes() -> None:
    server = RealServer(models.tiny_llama3())
    server.wait_for_state("ready")
    engine = server.engine_pid()
    assert server.stop() == 0
    until(lambda: not Path(f"/proc/{engine}").exists())


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
        with path.open("ab") as file:  # the download goes on
            file.write(data[-100_000:])
        server.wait_for_state("ready")
        assert complete(server, max_tokens=2).status == 200


def test_no_model_at_all(tmp_path: Path) -> None:
    path = tmp_path / "none.gguf"
    with RealServer(path) as server:
        server.wait_for_state("failed")
        assert str(path) in server.health()["reason"]
        with pytest.raises(LLMAPIError) as caught:
            server.client.chat("hello")
        assert caught.value.status == 500
        assert str(path) in str(caught.value)
        for line in to_a_model():
            assert line in server.log
            assert line in server.health()["reason"]
        shutil.copyfile(models.tiny_llama3(), path)
        server.wait_for_state("ready")
        assert complete(server, max_tokens=2).status == 200
