"""Loading: progress, cancelling, and files that are no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from sheily_native import AbortedError, ClosedError, Model, ModelLoadError, build_info
from sheily_native import model as model_module
from sheily_native._library import library
from tests.support import models


def test_metadata_and_shape(tiny: Model) -> None:
    assert tiny.metadata["general.architecture"] == "llama"
    assert "<|start_header_id|>" in tiny.metadata["tokenizer.chat_template"]
    assert tiny.info.n_vocab == 128_256
    assert tiny.info.has_decoder
    assert not tiny.info.is_recurrent


def test_progress_goes_from_nothing_to_all() -> None:
    seen: list[float] = []
    with Model(models.tiny_llama3(), progress=seen.append):
        pass
    assert seen == sorted(seen)
    assert 0 <= seen[0] <= seen[-1] == 1.0


def test_an_error_in_progress_cancels_the_load() -> None:
    class StopNow(Exception):
        pass

    def stop(fraction: float) -> None:
        raise StopNow

    with pytest.raises(StopNow):
        Model(models.tiny_llama3(), progress=stop)


def test_a_load_that_is_cancelled_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = model_module._new_progress()
    library()[1].sn_progress_cancel(progress)
    monkeypatch.setattr(model_module, "_new_progress", lambda: progress)
    with pytest.raises(AbortedError, match=r"llama3-tiny\.gguf was cancelled"):
        Model(models.tiny_llama3())


def test_what_threads_share_is_behind_functions() -> None:
    """A C struct that Python writes to while another thread reads it would be no atomic."""
    ffi, _ = library()
    with pytest.raises(TypeError, match="sn_progress"):
        ffi.new("sn_progress *")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=str(tmp_path / "no.gguf")):
        Model(tmp_path / "no.gguf")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=str(path)):
        Model(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    data = models.tiny_llama3().read_bytes()
    path.write_bytes(data[: len(data) - 100_000])
    with pytest.raises(ModelLoadError, match=r"short\.gguf"):
        Model(path)


def test_a_closed_model_says_so() -> None:
    model = Model(models.VOCABULARY, vocab_only=True)
    model.close()
    model.close()
    with pytest.raises(ClosedError):
        model.tokenize("hello")


def test_the_build_says_what_it_is() -> None:
    info = build_info()
    assert not info.missing


def test_the_real_model_answers(smollm2: Model) -> None:
    assert smollm2.info.n_layer == 30
    text = "Hola, ¿qué tal? 😀 你好"
    assert b"".join(smollm2.piece(token) for token in smollm2.tokenize(text)) == text.encode()
