"""`sheily doctor`: each finding, with files and servers made here; nothing compiled is needed."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheily_native import BuildInfo, NotBuiltError
from sheily_server.backend.preflight import Free
from sheily_server.cli import doctor
from sheily_server.cli.doctor import Finding
from tests.support import gguf_files, tuned_files
from tests.support.build_infos import build_info

PROGRAM = "sheily doctor"
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INFO = build_info(name="v3", instruction_sets=("avx2",), cpu_instruction_sets=("avx2",))


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU, memory, and no settings beside a free port."""
    for name in list(os.environ):
        if name.startswith("LLM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LLM_PORT", "0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "build_info", lambda: INFO)
    free = Free(10**10, "of this machine")
    monkeypatch.setattr("sheily_server.backend.preflight.free_memory", lambda: free)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    facts: dict[str, str | float] = {
        "general.architecture": "llama",
        "tokenizer.chat_template": CHATML,
    }
    return gguf_files.write_facts(tmp_path / "m.gguf", facts)


def _found(model: Path | None, about: str) -> list[Finding]:
    name = None if model is None else str(model)
    return [each for each in doctor.examine(name, os.environ) if each.about == about]


def _only(model: Path | None, about: str) -> Finding:
    [finding] = _found(model, about)
    return finding


def test_nothing_is_wrong(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([str(model)], PROGRAM) == 0
    output = capsys.readouterr().out
    assert "\nwrong" not in output
    assert f"{model}" in output
    assert "chatml prompts" in output
    assert output.splitlines()[-1].endswith(f" serve {model}")
    assert doctor.main([str(model), "--json"], PROGRAM) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {finding["state"] for finding in findings} <= {"ok", "note"}


def test_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    finding = _only(None, "model")
    assert finding.state == "wrong"
    assert [command.split()[-2:] for command in finding.commands] == [
        ["fetch", "smollm2"],
        ["serve", "smollm2"],
    ]
    assert doctor.main([], PROGRAM) == 1
    assert capsys.readouterr().out.endswith("\nTo mend first: model.\n")
    assert doctor.main(["--json"], PROGRAM) == 1


def test_a_name_that_was_not_fetched() -> None:
    assert _only(Path("smollm2"), "settings").commands[0].endswith("serve --fetch smollm2")


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_text("<html>")
    assert _only(path, "model").state == "wrong"


def test_a_template_that_is_not_known(tmp_path: Path) -> None:
    path = gguf_files.write_facts(tmp_path / "m.gguf", {"tokenizer.chat_template": "strange"})
    finding = _only(path, "model")
    assert finding.state == "wrong"
    assert "supported" in finding.text


def test_memory(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _only(model, "memory").state == "note"  # the file does not say what its cache takes
    monkeypatch.setattr("sheily_server.backend.preflight.kv_bytes_a_token", lambda *_: 10_000.0)
    assert _only(model, "memory").state == "ok"
    monkeypatch.setenv("LLM_CONTEXT_SIZE", "1000000")
    finding = _only(model, "memory")
    assert finding.state == "wrong"
    assert "would fit" in finding.text


def test_settings(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret-key-1234567\n")
    keys.chmod(0o644)
    monkeypatch.setenv("LLM_API_KEY_FILE", str(keys))
    monkeypatch.setenv("LLM_PROT", "1")
    typo, permissions = _found(model, "settings")
    assert {typo.state, permissions.state} == {"note"}
    assert "did you mean LLM_PORT?" in typo.text
    assert "chmod 600" in permissions.text
    monkeypatch.setenv("LLM_PORT", "many")
    finding = _only(model, "settings")
    assert (finding.state, finding.text.split()[0]) == ("wrong", "LLM_PORT")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """LLM_PORT, where another program listens and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("LLM_PORT", str(port))
        monkeypatch.setattr("sheily_server.web.binding.PROBE_S", 0.1)
        yield port


def test_a_port_that_another_program_has(model: Path, taken: int) -> None:
    finding = _only(model, "port")
    assert finding.state == "wrong"
    assert f"LLM_PORT is {taken}" in finding.text


def test_a_port_that_our_own_server_has(
    model: Path,
    taken: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "own_server", lambda host, port: "llama")
    finding = _only(model, "port")
    assert finding.state == "note"
    assert "'llama'" in finding.text
    assert finding.commands[0].endswith(" health")
    assert doctor.main([str(model)], PROGRAM) == 0
    assert capsys.readouterr().out.endswith("a server runs already.\n")


def test_the_store(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _found(model, "store") == []
    path = tmp_path / "responses.db"
    monkeypatch.setenv("LLM_STORE", str(path))
    assert _only(model, "store").state == "ok"
    assert not path.exists()
    path.write_text("something else")
    path.chmod(0o600)
    assert _only(model, "store").state == "wrong"
    monkeypatch.setenv("LLM_STORE", str(tmp_path / "none" / "responses.db"))
    assert _only(model, "store").state == "wrong"


@pytest.mark.parametrize(
    ("cpu", "name", "state"),
    [("A CPU", "m.gguf", "ok"), ("Another", "m.gguf", "note"), ("A CPU", "x.gguf", "note")],
)
def test_a_tuned_file(
    cpu: str,
    name: str,
    state: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tuned_files.write(tmp_path / "tuned.json", cpu=cpu, model=name)
    monkeypatch.setenv("LLM_TUNED", str(path))
    monkeypatch.setattr(doctor, "check_kernel", lambda *_: None)
    finding = _only(model, "tuned")
    assert finding.state == state
    assert bool(finding.commands) == (state == "note")


def test_cpu_and_build(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _only(model, "CPU").state == "ok"
    other = dataclasses.replace(INFO, unused=("avx512f",))
    monkeypatch.setattr(doctor, "build_info", lambda: other)
    assert "the v3 build leaves avx512f of it unused" in _only(model, "CPU").text
    other = dataclasses.replace(INFO, missing=("avx2",))
    monkeypatch.setattr(doctor, "build_info", lambda: other)
    finding = _only(model, "CPU")
    assert (finding.state, len(finding.commands)) == ("wrong", 1)

    def not_built() -> BuildInfo:
        raise NotBuiltError("not compiled")

    monkeypatch.setattr(doctor, "build_info", not_built)
    assert _only(model, "CPU") == Finding("CPU", "wrong", "not compiled")
