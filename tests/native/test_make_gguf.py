"""The generated GGUF files, read back with the `gguf` package; nothing is loaded into llama.cpp."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from tools import gguf_file, make_gguf


def _fast_memmap(path: str | Path, mode: str = "r") -> Any:
    """The file in memory: GGUFReader slices its map 800,000 times, and a map slices slowly."""
    assert mode == "r"
    return np.fromfile(path, dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes") / "tiny.gguf"
    make_gguf.write_shape("tiny", path)
    return path


@pytest.fixture(scope="module")
def tiny(tiny_path: Path) -> GGUFReader:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "memmap", _fast_memmap)
        return GGUFReader(tiny_path)


def _contents(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    assert field is not None, key
    return field.contents()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_tiny_is_small(tiny_path: Path) -> None:
    assert tiny_path.stat().st_size < 20_000_000


def test_metadata_is_that_of_llama_3_2(tiny: GGUFReader) -> None:
    expected = {
        "general.architecture": "llama",
        "general.file_type": 7,
        "general.quantization_version": 2,
        "llama.block_count": 2,
        "llama.context_length": 131072,
        "llama.vocab_size": 128256,
        "llama.rope.freq_base": 500000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.bos_token_id": 128000,
        "tokenizer.ggml.eos_token_id": 128009,
    }
    assert {key: _contents(tiny, key) for key in expected} == expected
    epsilon = _contents(tiny, "llama.attention.layer_norm_rms_epsilon")
    assert epsilon == pytest.approx(1e-5)


def test_template_is_the_official_one(tiny: GGUFReader) -> None:
    assert _contents(tiny, "tokenizer.chat_template") == make_gguf.TEMPLATE.read_text("utf-8")


def test_vocabulary_is_complete(tiny: GGUFReader) -> None:
    tokens = _contents(tiny, "tokenizer.ggml.tokens")
    types = _contents(tiny, "tokenizer.ggml.token_type")
    assert len(tokens) == len(set(tokens)) == len(types) == 128256
    assert set(types[:128000]) == {1}
    assert set(types[128000:]) == {3}
    assert len(_contents(tiny, "tokenizer.ggml.merges")) == 280147
    source = gguf_file.read_metadata(make_gguf.VOCABULARY)
    assert tokens[:128000] == gguf_file.decode_strings(source["tokenizer.ggml.tokens"])[:128000]


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (128000, "<|begin_of_text|>"),
        (128001, "<|end_of_text|>"),
        (128003, "<|reserved_special_token_1|>"),
        (128004, "<|finetune_right_pad_id|>"),
        (128005, "<|reserved_special_token_2|>"),
        (128006, "<|start_header_id|>"),
        (128007, "<|end_header_id|>"),
        (128008, "<|eom_id|>"),
        (128009, "<|eot_id|>"),
        (128010, "<|python_tag|>"),
        (128011, "<|reserved_special_token_3|>"),
        (128255, "<|reserved_special_token_247|>"),
    ],
)
def test_special_tokens_are_those_of_llama_3_2(token: int, text: str) -> None:
    assert make_gguf.special_tokens()[token - 128000] == text


def test_tensors_are_those_that_llama_cpp_asks_for(tiny: GGUFReader) -> None:
    layer = {
        "attn_norm": [64],
        "attn_q": [64, 128],
        "attn_k": [64, 64],
        "attn_v": [64, 64],
        "attn_output": [128, 64],
        "ffn_norm": [64],
        "ffn_gate": [64, 128],
        "ffn_up": [64, 128],
        "ffn_down": [128, 64],
    }
    expected = {"rope_freqs.weight": [16], "token_embd.weight": [64, 128256]}
    for number in range(2):
        expected |= {f"blk.{number}.{name}.weight": sizes for name, sizes in layer.items()}
    expected["output_norm.weight"] = [64]
    found = {tensor.name: tensor.shape.tolist() for tensor in tiny.tensors}
    assert found == expected
    for tensor in tiny.tensors:
        matrix = len(expected[tensor.name]) == 2
        wanted = GGMLQuantizationType.Q8_0 if matrix else GGMLQuantizationType.F32
        assert tensor.tensor_type == wanted, tensor.name
        assert tensor.data_offset % 32 == 0, tensor.name


def test_weights_keep_activations_finite(tiny: GGUFReader) -> None:
    for tensor in tiny.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(weights).all(), tensor.name
        if tensor.tensor_type == GGMLQuantizationType.Q8_0:
            deviation = 1 / math.sqrt(int(tensor.shape[0]))
            assert weights.std() == pytest.approx(deviation, rel=0.05), tensor.name
            assert abs(weights.mean()) < 0.05 * deviation, tensor.name
        elif tensor.name != "rope_freqs.weight":
            assert (weights == 1).all(), tensor.name


def test_no_quant_is_minus_128() -> None:
    raw = np.full(40 * 4, 128, dtype=np.uint8)
    assert (make_gguf.random_blocks(raw, 1.0)["quants"] == -127).all()


def test_scales_differ_and_are_normal_numbers_at_the_widest_row() -> None:
    raw = np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, 40)).ravel()
    scales = make_gguf.random_blocks(raw, 1 / math.sqrt(8192))["scale"]
    assert len(np.unique(scales)) > 100
    assert scales.min() >= np.finfo(np.float16).tiny
    assert scales.max() / scales.min() == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("head", [32, 64, 128])
def test_rope_factors_follow_the_published_rule(head: int) -> None:
    expected = []
    for pair in range(head // 2):
        wavelength = 2 * math.pi * 500000 ** (2 * pair / head)
        if wavelength < 8192 / 4:
            expected.append(1.0)
        elif wavelength > 8192 / 1:
            expected.append(32.0)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            expected.append(1 / ((1 - smooth) / 32 + smooth))
    factors = make_gguf.rope_factors(head)
    np.testing.assert_allclose(factors, expected, rtol=1e-5)
    assert factors[0] == 1
    assert factors[-1] == 32
    assert ((factors > 1) & (factors < 32)).any()


def test_rope_factors_are_written(tiny: GGUFReader) -> None:
    data = {tensor.name: tensor.data for tensor in tiny.tensors}["rope_freqs.weight"]
    np.testing.assert_array_equal(data, make_gguf.rope_factors(32))


def test_same_seed_same_bytes(tiny_path: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again.gguf", tmp_path / "other.gguf"
    make_gguf.write_shape("tiny", again)
    make_gguf.write_shape("tiny", other, seed=1)
    assert _digest(again) == _digest(tiny_path)
    assert _digest(other) != _digest(tiny_path)
    assert other.stat().st_size == again.stat().st_size


@pytest.mark.parametrize(("name", "millions"), [("1b", 1235.8), ("3b", 3212.7)])
def test_large_shapes_have_the_real_number_of_weights(name: str, millions: float) -> None:
    tensors = make_gguf.plan(make_gguf.SHAPES[name])
    weights = sum(tensor.columns * tensor.rows for tensor in tensors if "rope" not in tensor.name)
    assert weights / 1e6 == pytest.approx(millions, abs=0.1)
    assert all(tensor.columns % 32 == 0 for tensor in tensors)


def test_tensors_larger_than_a_chunk_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = make_gguf.Tensor("w", 64, 100)
    whole = b"".join(make_gguf.tensor_bytes(tensor, 0, 3))
    monkeypatch.setattr(make_gguf, "BLOCKS_PER_CHUNK", 7)
    parts = list(make_gguf.tensor_bytes(tensor, 0, 3))
    assert len(parts) == math.ceil(200 / 7)
    assert b"".join(parts) == whole
    assert len(whole) == tensor.info.nbytes


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make_gguf, "pad", full_disk)
    with pytest.raises(OSError, match="No space left"):
        make_gguf.write_shape("tiny", tmp_path / "tiny.gguf")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known are tiny, 1b, 3b"):
        make_gguf.write_shape("7b", tmp_path / "x.gguf")
    with pytest.raises(ValueError, match="negative"):
        make_gguf.write_shape("tiny", tmp_path / "x.gguf", seed=-1)
    with pytest.raises(IsADirectoryError):
        make_gguf.write_shape("tiny", tmp_path)


def test_missing_source_says_how_to_bring_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_gguf, "VOCABULARY", tmp_path / "none.gguf")
    with pytest.raises(FileNotFoundError, match=r"vendor/fetch\.py"):
        make_gguf.write_shape("tiny", tmp_path / "x.gguf")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.gguf"
    assert make_gguf.main(["tiny", str(path), "--seed", "5"]) == 0
    assert "16.7 MB" in capsys.readouterr().out
    assert make_gguf.main(["tiny", str(tmp_path / "none" / "tiny.gguf")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("cut", [0, 3, 23, 24, 60, 100, 1000])
def test_damaged_metadata_is_refused(tiny_path: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_path.read_bytes()[:cut])
    with pytest.raises(
        ValueError, match=r"cut\.gguf (is empty|is not a GGUF file|ends in|says that)"
    ):
        gguf_file.read_metadata(path)


def test_unknown_value_type_is_refused(tmp_path: Path) -> None:
    data = b"GGUF" + bytes([3, 0, 0, 0]) + bytes(8) + bytes([1] + [0] * 7)
    data += bytes([1] + [0] * 7) + b"k" + bytes([99, 0, 0, 0]) + bytes(8)
    path = tmp_path / "odd.gguf"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="a value of type 99"):
        gguf_file.read_metadata(path)
