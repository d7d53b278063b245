"""A server with a tuned file, and with the settings that such a file has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sheily_native import kernels
from sheily_native.cpu import current_cpu
from tests.support import models, tuned_files
from tests.support.real_server import RealServer
from tests.support.waiting import WAIT, until
from tools import server_process

TUNED = {"kernel": "off", "threads": 1, "chunk": 17, "kv_type": "q8_0"}


def tuned(folder: Path, **changes: str) -> Path:
    about = {"cpu": current_cpu().model, "model": models.tiny_llama3().name}
    return tuned_files.write(folder / "t.json", settings=TUNED, **(about | changes))


def ready_line(server: RealServer) -> str:
    """What is said when the model is loaded: of it and, in a line of its own, of the KV cache."""

    def found() -> list[str]:
        return [line for line in server.lines if " ready: " in line or " KV cache: " in line]

    until(lambda: len(found()) == 2, what=f"for the lines {server.log}")
    return " ".join(found())


def test_a_tuned_file_is_used(tmp_path: Path) -> None:
    with RealServer(models.tiny_llama3(), tuned=tuned(tmp_path), context_size=512) as server:
        server.wait_for_state("ready")
        line = ready_line(server)
        for words in ("in q8_0", "all of 512 tokens", "1 threads", "chunks of 17", "kernel off"):
            assert words in line
        assert "WARNING" not in server.log
        assert server.health()["kernel"] is None
        reply = server.client.chat("word " * 100, max_tokens=3, temperature=0)
        assert reply.usage["prompt_tokens"] > 100


def test_a_file_for_another_model_is_used_with_a_warning(tmp_path: Path) -> None:
    file = tuned(tmp_path, model="another.gguf")
    with RealServer(models.tiny_llama3(), tuned=file) as server:
        server.wait_for_state("ready")
        assert "chunks of 17" in ready_line(server)
        [warning] = [line for line in server.lines if "WARNING" in line]
        assert "another.gguf" in warning


def test_a_file_for_another_cpu_is_not_used_and_warned_of(tmp_path: Path) -> None:
    file = tuned(tmp_path, cpu="Another CPU")
    with RealServer(models.tiny_llama3(), tuned=file, threads=1) as server:
        server.wait_for_state("ready")
        for words in ("in f16", "all of 4096 tokens", "1 threads", "chunks of 128"):
            assert words in ready_line(server)
        [warning] = [line for line in server.lines if "WARNING" in line]
        assert "Another CPU" in warning


def test_a_kernel_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = kernels.usable()
    if not usable:
        pytest.skip("this CPU has none of our kernels")
    name = usable[-1]
    monkeypatch.setenv(kernels.VARIABLE, "no_such_kernel")  # which LLM_KERNEL overrides
    with RealServer(models.tiny_llama3(), kernel=name) as server:
        server.wait_for_state("ready")
        assert server.health()["kernel"] == name
        assert f"kernel {name}" in ready_line(server)


def test_the_librarys_own_variable_holds_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(kernels.VARIABLE, "off")
    with RealServer(models.tiny_llama3()) as server:
        server.wait_for_state("ready")
        assert server.health()["kernel"] is None


def test_a_kernel_that_is_not_there_stops_the_start() -> None:
    environment = server_process.environment("LLM_", kernels.VARIABLE)
    for name in ("LLM_KERNEL", kernels.VARIABLE):
        done = subprocess.run(
            [sys.executable, "-m", "sheily_server", "--port=0"],
            env=environment | {"LLM_MODEL_PATH": str(models.tiny_llama3()), name: "foo"},
            capture_output=True,
            text=True,
            timeout=WAIT,
        )
        assert done.returncode == 2
        choices = ", ".join(("auto", "off", *kernels.usable()))
        assert (
            done.stderr == f"sheily_server: {name} is 'foo', not one of {choices}, on this CPU.\n"
        )
