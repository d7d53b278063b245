"""The tuned file from the server's side: what is read, what is refused, what holds where."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sheily_server.backend.commands import start_of
from sheily_server.config import Config, ConfigError, load
from sheily_server.engine.settled import settled
from sheily_server.protocol.commands import PromptFormat, Start
from sheily_server.protocol.events import Ready
from sheily_server.tuned import Tuned, read
from tests.support import tuned_files

SETTINGS = tuned_files.settings()
DEFAULTS: dict[str, int | str] = {"threads": 0, "chunk": 128, "kernel": "auto", "kv_type": "f16"}


def settings(config: Config | Start) -> dict[str, Any]:
    return {name: getattr(config, name) for name in DEFAULTS}


def test_a_file_is_read() -> None:
    path = tuned_files.EXAMPLE
    assert read(path) == Tuned(
        path=str(path), cpu="A CPU of no machine", model="a-model.gguf", settings=SETTINGS
    )


WRONG = {
    "version": ({"version": 2}, "version '2', not 1"),
    "version as text": ({"version": "1"}, "version '1', not 1"),
    "version true": ({"version": True}, "version"),
    "no version": ({"version": None}, "at version: tune again"),
    "no settings": ({"settings": None}, "at settings: tune again"),
    "an unknown key": ({"threads": 2}, "at threads: tune again"),
    "cpu": ({"cpu": 5}, "cpu"),
    "model": ({"model": None}, "at model: tune again"),
    "date": ({"date": []}, "date"),
    "an unknown setting": (
        {"settings": tuned_files.settings(blas=True)},
        "at settings.blas: tune again",
    ),
    "a missing setting": (
        {"settings": tuned_files.settings(chunk=None)},
        "at settings.chunk: tune again",
    ),
    "threads": ({"settings": tuned_files.settings(threads="2")}, "settings.threads"),
    "negative threads": ({"settings": tuned_files.settings(threads=-1)}, "settings.threads"),
    "half a thread": ({"settings": tuned_files.settings(threads=0.5)}, "settings.threads"),
    "chunk": ({"settings": tuned_files.settings(chunk=0)}, "settings.chunk"),
    "kernel": ({"settings": tuned_files.settings(kernel="no kernel")}, "settings.kernel"),
    "kernel's end": ({"settings": tuned_files.settings(kernel="avx2\n")}, "settings.kernel"),
    "kv_type": ({"settings": tuned_files.settings(kv_type="f32")}, "settings.kv_type"),
    "measured": ({"measured": {"prefill_tokens": 1}}, "measured"),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_one_sentence_with_file_and_field(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = tuned_files.write(tmp_path / "t.json", **changes)
    with pytest.raises(ConfigError) as caught:
        load(["--tuned", str(path)], {})
    sentence = str(caught.value)
    assert sentence.startswith(f"--tuned is {str(path)!r}, ")
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"[]", b"{", b'"\n', b"GGUF\0", b'{"version": 1, "x": ' + b"[" * 60_000],
)
def test_any_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is not as sheily_native\.tune writes it") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "none", tmp_path / ("n" * 300)):
        with pytest.raises(ValueError, match=r"is not a file|cannot be read"):
            read(path)


def test_the_file_decides_what_nothing_else_does() -> None:
    config = load(["--tuned", str(tuned_files.EXAMPLE)], {})
    assert settings(config) == SETTINGS
    assert config.context_size == 4096
    assert config.tuned is not None
    assert config.tuned.otherwise == DEFAULTS


def test_flags_and_variables_win_over_the_file() -> None:
    config = load(
        ["--threads", "1", "--kernel=off"],
        {"LLM_TUNED": str(tuned_files.EXAMPLE), "LLM_KERNEL": "avx_vnni", "LLM_CHUNK": "64"},
    )
    assert settings(config) == {"threads": 1, "chunk": 64, "kernel": "off", "kv_type": "q8_0"}
    assert config.tuned is not None
    assert config.tuned.otherwise == {"kv_type": "f16"}


def test_without_a_file_the_engine_is_told_of_none() -> None:
    assert start_of(load(["--threads", "1"], {})).tuned is None


def start(model: str = "/models/a-model.gguf", *arguments: str) -> Start:
    """What the engine is told."""
    tuned = ["--tuned", str(tuned_files.EXAMPLE), "--model-path", model]
    return start_of(load([*tuned, *arguments], {}))


def test_the_engine_is_told_both_what_was_tuned_and_what_holds_elsewhere() -> None:
    found = start()
    assert settings(found) == SETTINGS
    assert found.tuned == Tuned(
        path=str(tuned_files.EXAMPLE),
        cpu="A CPU of no machine",
        model="a-model.gguf",
        settings=SETTINGS,
        otherwise=DEFAULTS,
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Start) == found


def test_on_its_cpu_with_its_model_the_file_is_used_in_silence() -> None:
    assert settled(start(), "A CPU of no machine", 64) == (start(), [])
    assert settled(
        Start(model_path="m", context_size=1, parallel=1, threads=2, log_level="info"), "any", 2
    ) == (Start(model_path="m", context_size=1, parallel=1, threads=2, log_level="info"), [])


def test_another_model_is_warned_of_and_the_file_used() -> None:
    found, [sentence] = settled(start("/models/other.gguf"), "A CPU of no machine", 64)
    assert settings(found) == SETTINGS
    for word in (str(tuned_files.EXAMPLE), "a-model.gguf", "other.gguf"):
        assert word in sentence


def test_another_cpu_is_warned_of_and_the_file_not_used() -> None:
    found, [sentence] = settled(start("/models/other.gguf", "--threads", "2"), "Another CPU", 64)
    assert settings(found) == DEFAULTS | {"threads": 2}
    for word in (str(tuned_files.EXAMPLE), "A CPU of no machine", "Another CPU", "no effect"):
        assert word in sentence


def test_more_threads_than_cpus_are_doubted() -> None:
    three = msgspec.structs.replace(start(), tuned=None, threads=3)
    assert settled(three, "any", 3) == (three, [])
    for n, cpus in ((2, "2 CPUs"), (1, "1 CPU")):
        assert settled(three, "any", n) == (
            three,
            [
                f"LLM_THREADS is 3, and this process may use {cpus}: more threads than that make "
                "it slower."
            ],
        )


def test_defaults_are_the_same_on_both_sides_of_the_wire() -> None:
    assert (
        settings(Start(model_path="", context_size=1, parallel=1, threads=0, log_level=""))
        == DEFAULTS
    )
    assert {f.name: f.default for f in fields(Config) if f.name in DEFAULTS} == DEFAULTS
    ready = Ready(
        prompt_format=PromptFormat("chatml"),
        model_bytes=1,
        kv_bytes=1,
        n_ctx_train=1,
        n_threads=1,
        fingerprint="",
    )
    assert (ready.chunk, ready.kv_type) == (DEFAULTS["chunk"], DEFAULTS["kv_type"])
