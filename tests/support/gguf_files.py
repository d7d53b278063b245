"""GGUF files that tests make: SmolLM2 with all weights in Q8_0, and small Llamas of any shape."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize

from tests.support import models
from tools.gguf_file import TensorInfo, Value, encode, pad, read_metadata, write_header

SMOLLM2_Q8_0 = models.TINY.parent / "smollm2-q8_0.gguf"
Q8_0 = GGMLQuantizationType.Q8_0
F32 = GGMLQuantizationType.F32
_FILE_MOSTLY_Q8_0 = 7


@dataclass(frozen=True, slots=True)
class Llama:
    """The sizes of a Llama with random weights and without a tokenizer.

    `types` names the type of a kind of tensor ("ffn_up", "output"); the others are Q8_0. Without
    `untied` there is no output matrix: the embedding serves as one.
    """

    width: int = 64
    heads: int = 4
    kv_heads: int = 2
    head: int = 16
    ffn: int = 128
    vocabulary: int = 512
    layers: int = 2
    experts: int = 0
    untied: bool = False
    types: Mapping[str, GGMLQuantizationType] = field(default_factory=dict)


def smollm2_q8_0() -> Path:
    """The small real model, requantized. Skips the test where it was not fetched."""
    source = models.smollm2()
    made_by = max(Path(__file__).stat().st_mtime, source.stat().st_mtime)
    if not SMOLLM2_Q8_0.exists() or SMOLLM2_Q8_0.stat().st_mtime < made_by:
        fields = read_metadata(source)
        fields["general.file_type"] = encode(_FILE_MOSTLY_Q8_0)
        tensors = [
            (t.name, t.tensor_type, np.asarray(t.data))
            if t.tensor_type == F32
            else (t.name, Q8_0, quantize(dequantize(t.data, t.tensor_type), Q8_0))
            for t in _tensors(source)
        ]
        SMOLLM2_Q8_0.parent.mkdir(parents=True, exist_ok=True)
        fresh = SMOLLM2_Q8_0.with_suffix(f".{os.getpid()}")
        _write(fresh, fields, tensors)
        fresh.replace(SMOLLM2_Q8_0)
    return SMOLLM2_Q8_0


def write_facts(path: Path, facts: Mapping[str, str | float]) -> Path:
    """Writes a whole file that has metadata and no tensors, for a fake engine."""
    with path.open("wb") as file:
        write_header(file, {key: encode(value) for key, value in facts.items()}, ())
    return path


def write_floats(source: Path, path: Path) -> Path:
    """Writes the same weights as floats, 4 bytes each, and gives the file's path."""
    tensors = [
        (t.name, F32, np.asarray(dequantize(t.data, t.tensor_type), np.float32))
        for t in _tensors(source)
    ]
    _write(path, read_metadata(source), tensors)
    return path


def write_llama(path: Path, llama: Llama, seed: int = 0) -> Path:
    """Writes the file and gives its path; the same arguments give the same weights."""
    random = np.random.default_rng(seed)
    queries, keys = llama.heads * llama.head, llama.kv_heads * llama.head
    contents: dict[str, str | float] = {
        "general.architecture": "llama",
        "general.file_type": _FILE_MOSTLY_Q8_0,
        "general.quantization_version": 2,
        "llama.block_count": llama.layers,
        "llama.context_length": 1024,
        "llama.embedding_length": llama.width,
        "llama.feed_forward_length": llama.ffn,
        "llama.attention.head_count": llama.heads,
        "llama.attention.head_count_kv": llama.kv_heads,
        "llama.attention.key_length": llama.head,
        "llama.attention.value_length": llama.head,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": llama.head,
        "llama.vocab_size": llama.vocabulary,
        "tokenizer.ggml.model": "no_vocab",
    }
    if llama.experts:
        contents["llama.expert_count"] = llama.experts
        # All of them: a choice could fall otherwise for a logit that differs by nothing.
        contents["llama.expert_used_count"] = llama.experts
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (llama.vocabulary, llama.width)}
    for layer in range(llama.layers):
        block = f"blk.{layer}."
        shapes |= {
            block + "attn_norm": (llama.width,),
            block + "attn_q": (queries, llama.width),
            block + "attn_k": (keys, llama.width),
            block + "attn_v": (keys, llama.width),
            block + "attn_output": (llama.width, queries),
            block + "ffn_norm": (llama.width,),
        }
        many = (llama.experts,) if llama.experts else ()
        suffix = "_exps" if llama.experts else ""
        shapes |= {
            block + "ffn_gate" + suffix: (*many, llama.ffn, llama.width),
            block + "ffn_up" + suffix: (*many, llama.ffn, llama.width),
            block + "ffn_down" + suffix: (*many, llama.width, llama.ffn),
        }
        if llama.experts:
            shapes[block + "ffn_gate_inp"] = (llama.experts, llama.width)
    shapes["output_norm"] = (llama.width,)
    if llama.untied:
        shapes["output"] = (llama.vocabulary, llama.width)

    tensors = []
    for name, shape in shapes.items():
        kind = llama.types.get(name.split(".")[-1], Q8_0)
        if len(shape) == 1:
            kind, values = F32, np.ones(shape, np.float32)
        else:
            values = random.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)
            kind = F32 if name.endswith("gate_inp") else kind
        tensors.append((f"{name}.weight", kind, quantize(values, kind)))
    _write(path, {key: encode(content) for key, content in contents.items()}, tensors)
    return path


def _tensors(path: Path) -> Iterable[Any]:
    def whole_file(source: str | Path, mode: str = "r") -> Any:
        return np.fromfile(source, np.uint8)

    # GGUFReader slices its map for every token of the vocabulary, and a map slices slowly.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "memmap", whole_file)
        return GGUFReader(path).tensors


def _write(
    path: Path,
    fields: Mapping[str, Value],
    tensors: list[tuple[str, GGMLQuantizationType, npt.NDArray[Any]]],
) -> None:
    with path.open("wb") as file:
        write_header(file, fields, [_info(*tensor) for tensor in tensors])
        for _, _, data in tensors:
            file.write(np.ascontiguousarray(data).tobytes())
            pad(file)


def _info(name: str, kind: GGMLQuantizationType, data: npt.NDArray[Any]) -> TensorInfo:
    from gguf.quants import quant_shape_from_byte_shape

    rows_first = (
        quant_shape_from_byte_shape(data.shape, kind) if data.dtype == np.uint8 else data.shape
    )
    return TensorInfo(name, tuple(reversed(rows_first)), int(kind), data.nbytes)
