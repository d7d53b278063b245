"""Writes GGUF files of Llama 3.2's shapes with random weights; knows no engine and no server."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sheily_server.version import ShowVersion
from tools.gguf_file import (
    TENSOR_F32,
    TENSOR_Q8_0,
    TensorInfo,
    Value,
    decode_strings,
    encode,
    pad,
    read_metadata,
    write_header,
)

LLAMA_CPP = Path(__file__).resolve().parents[1] / "vendor" / "llama.cpp"
VOCABULARY = LLAMA_CPP / "models" / "ggml-vocab-llama-bpe.gguf"
TEMPLATE = LLAMA_CPP / "models" / "templates" / "meta-llama-Llama-3.2-3B-Instruct.jinja"

VOCABULARY_SIZE = 128256
CONTEXT_LENGTH = 131072
ROPE_THETA = 500000.0
RMS_EPSILON = 1e-5
BOS_TOKEN = 128000
EOS_TOKEN = 128009
"""The Instruct files end a turn with `<|eot_id|>`, and name it as their end of sequence."""

BLOCK_WEIGHTS = 32
_Q8_0_BLOCK = np.dtype([("scale", "<f2"), ("quants", "i1", (BLOCK_WEIGHTS,))])
BLOCKS_PER_CHUNK = 1 << 17
_WORDS_PER_BLOCK = 5

_FILE_MOSTLY_Q8_0 = 7


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of one Llama: `width` values a token, `heads` query heads of `head` values each."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    ffn: int


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "tiny": Shape(layers=2, width=64, heads=4, kv_heads=2, head=32, ffn=128),
        "1b": Shape(layers=16, width=2048, heads=32, kv_heads=8, head=64, ffn=8192),
        "3b": Shape(layers=28, width=3072, heads=24, kv_heads=8, head=128, ffn=8192),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor to write: `rows` of `columns` values; Q8_0 random weights when `values` is None."""

    name: str
    columns: int
    rows: int = 1
    values: npt.NDArray[np.float32] | None = None

    @property
    def blocks(self) -> int:
        """How many Q8_0 blocks hold the weights."""
        return self.columns * self.rows // BLOCK_WEIGHTS

    @property
    def info(self) -> TensorInfo:
        """What the file's header says of it."""
        if self.values is not None:
            return TensorInfo(self.name, (self.columns,), TENSOR_F32, 4 * self.columns)
        nbytes = self.blocks * _Q8_0_BLOCK.itemsize
        return TensorInfo(self.name, (self.columns, self.rows), TENSOR_Q8_0, nbytes)


def write_shape(name: str, path: Path, seed: int = 0, progress: bool = False) -> None:
    """Write the GGUF of one shape (`tiny`, `1b` or `3b`) to `path`, whole or not at all.

    The same name and seed (not negative) give the same bytes. Needs llama.cpp's source in
    `vendor/`, for the vocabulary and the chat template. Memory stays below 200 MB for any shape.

    The weights are random, so the text is too: any token may come, an end token or half a
    character among them, and whether an answer ends before its limit is chance. Where a test
    needs to know, it forbids the end tokens or sets the limit.

    Raises:
        ValueError: the name is unknown, or the vocabulary is not Llama 3's.
        OSError: a source is missing, or the file cannot be written.
    """
    if name not in SHAPES:
        raise ValueError(f"unknown shape {name!r}; known are {', '.join(SHAPES)}")
    if seed < 0:
        raise ValueError(f"the seed must not be negative, got {seed}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file")
    tensors = plan(SHAPES[name])
    fields = _fields(name, SHAPES[name])
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file, _bar(tensors, path, progress) as bar:
            write_header(file, fields, (tensor.info for tensor in tensors))
            for index, tensor in enumerate(tensors):
                for chunk in tensor_bytes(tensor, seed, index):
                    file.write(chunk)
                    bar.update(len(chunk))
                pad(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def plan(shape: Shape) -> tuple[Tensor, ...]:
    """The tensors of a Llama with tied embeddings, by the names that llama.cpp loads.

    Names and sizes: llama.cpp, `src/models/llama.cpp` and `src/llama-arch.cpp`. There is no
    `output.weight`: the token embedding serves as the output matrix.
    """
    width, queries, keys = shape.width, shape.heads * shape.head, shape.kv_heads * shape.head
    ones = np.ones(width, np.float32)
    factors = rope_factors(shape.head)
    tensors = [
        Tensor("rope_freqs.weight", len(factors), values=factors),
        Tensor("token_embd.weight", width, VOCABULARY_SIZE),
    ]
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        tensors += [
            Tensor(block + "attn_norm.weight", width, values=ones),
            Tensor(block + "attn_q.weight", width, queries),
            Tensor(block + "attn_k.weight", width, keys),
            Tensor(block + "attn_v.weight", width, keys),
            Tensor(block + "attn_output.weight", queries, width),
            Tensor(block + "ffn_norm.weight", width, values=ones),
            Tensor(block + "ffn_gate.weight", width, shape.ffn),
            Tensor(block + "ffn_up.weight", width, shape.ffn),
            Tensor(block + "ffn_down.weight", shape.ffn, width),
        ]
    return (*tensors, Tensor("output_norm.weight", width, values=ones))


def rope_factors(
    head: int,
    factor: float = 32.0,
    low: float = 1.0,
    high: float = 4.0,
    original_context: int = 8192,
) -> npt.NDArray[np.float32]:
    """The divisors of the `head / 2` rotary frequencies, Llama 3.2's long-context scaling.

    Wavelengths (in tokens) under `original_context / high` keep their frequency, those over
    `original_context / low` are slowed by `factor`, and between the two the frequency is
    interpolated. As llama.cpp's `conversion/llama.py` computes it from the model's `rope_scaling`.
    """
    frequencies = ROPE_THETA ** (-np.arange(0, head, 2, dtype=np.float64) / head)
    turns = original_context * frequencies / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1.0 - kept) / factor + kept)).astype(np.float32)


def special_tokens() -> tuple[str, ...]:
    """The 256 control tokens of Llama 3.2, ids 128000 to 128255 in order.

    llama.cpp's vocabulary file is that of Llama 3.0, which has reserved names at the three ids
    that 3.1 gave a meaning (Meta's `tokenizer_config.json` of Llama 3.1 and 3.2).
    """
    named = {
        0: "<|begin_of_text|>",
        1: "<|end_of_text|>",
        4: "<|finetune_right_pad_id|>",
        6: "<|start_header_id|>",
        7: "<|end_header_id|>",
        8: "<|eom_id|>",
        9: "<|eot_id|>",
        10: "<|python_tag|>",
    }
    free = iter(range(256))
    return tuple(
        named[place] if place in named else f"<|reserved_special_token_{next(free)}|>"
        for place in range(256)
    )


def _fields(name: str, shape: Shape) -> dict[str, Value]:
    contents: dict[str, str | float] = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": f"Llama 3.2 {name} shape, random weights",
        "general.file_type": _FILE_MOSTLY_Q8_0,
        "general.quantization_version": 2,
        "llama.block_count": shape.layers,
        "llama.context_length": CONTEXT_LENGTH,
        "llama.embedding_length": shape.width,
        "llama.feed_forward_length": shape.ffn,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.key_length": shape.head,
        "llama.attention.value_length": shape.head,
        "llama.attention.layer_norm_rms_epsilon": RMS_EPSILON,
        "llama.rope.freq_base": ROPE_THETA,
        "llama.rope.dimension_count": shape.head,
        "llama.vocab_size": VOCABULARY_SIZE,
    }
    fields = {key: encode(content) for key, content in contents.items()}
    fields |= _vocabulary(_source(VOCABULARY))
    fields["tokenizer.ggml.bos_token_id"] = encode(BOS_TOKEN)
    fields["tokenizer.ggml.eos_token_id"] = encode(EOS_TOKEN)
    fields["tokenizer.chat_template"] = encode(_source(TEMPLATE).read_text(encoding="utf-8"))
    return fields


def _source(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: bring llama.cpp's source with `python vendor/fetch.py`"
        )
    return path


def _vocabulary(path: Path) -> dict[str, Value]:
    fields = read_metadata(path)
    try:
        tokens = decode_strings(fields["tokenizer.ggml.tokens"])
        kept = {
            key: fields[key]
            for key in (
                "tokenizer.ggml.model",
                "tokenizer.ggml.pre",
                "tokenizer.ggml.tokens",
                "tokenizer.ggml.token_type",
                "tokenizer.ggml.merges",
            )
        }
    except KeyError as error:
        raise ValueError(f"the vocabulary file has no {error.args[0]}") from error
    if len(tokens) != VOCABULARY_SIZE or tokens[BOS_TOKEN] != "<|begin_of_text|>":
        raise ValueError("the vocabulary file does not hold Llama 3's 128256 tokens")
    tokens[BOS_TOKEN:] = special_tokens()
    return kept | {"tokenizer.ggml.tokens": encode(tokens)}


def tensor_bytes(tensor: Tensor, seed: int, index: int) -> Iterator[bytes]:
    """The data of the tensor at `index` of the plan, without padding, in chunks of a few MB."""
    if tensor.values is not None:
        yield tensor.values.astype("<f4").tobytes()
        return
    # Raw words of a bit generator stay the same in every numpy; its distributions need not.
    words = np.random.PCG64(np.random.SeedSequence([seed, index]))
    for first in range(0, tensor.blocks, BLOCKS_PER_CHUNK):
        count = min(BLOCKS_PER_CHUNK, tensor.blocks - first)
        raw = np.asarray(words.random_raw(count * _WORDS_PER_BLOCK), dtype="<u8")
        yield random_blocks(raw.view(np.uint8), 1 / math.sqrt(tensor.columns)).tobytes()


def random_blocks(raw: npt.NDArray[np.uint8], deviation: float) -> npt.NDArray[np.void]:
    """Make Q8_0 blocks (float16 scale, 32 int8) out of random bytes, 40 for each block.

    The quants are uniform over -127 to 127 (ggml never writes -128, and its kernels rely on
    that), the scales differ from block to block by up to a factor of 3, and the weights have
    `deviation` as their standard deviation.
    """
    rows = raw.reshape(-1, 8 * _WORDS_PER_BLOCK)
    blocks = np.empty(len(rows), dtype=_Q8_0_BLOCK)
    np.maximum(rows[:, :BLOCK_WEIGHTS].view(np.int8), -127, out=blocks["quants"])
    spread = 0.5 + rows[:, BLOCK_WEIGHTS] / 255.0
    # 73.9: deviation of the quants; 13 / 12: mean square of a scale between 0.5 and 1.5.
    blocks["scale"] = (deviation / (73.9 * math.sqrt(13 / 12)) * spread).astype(np.float16)
    return blocks


def _bar(tensors: tuple[Tensor, ...], path: Path, progress: bool) -> Any:
    total = sum(tensor.info.nbytes for tensor in tensors)
    return tqdm(total=total, unit="B", unit_scale=True, desc=path.name, disable=not progress)


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m tools.make_gguf`; the exit status is 1 when the file cannot be written."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_gguf",
        description="Write a GGUF with the shapes of Llama 3.2 and random Q8_0 weights.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("shape", choices=tuple(SHAPES))
    parser.add_argument("out", type=Path, metavar="OUT.gguf")
    parser.add_argument("--seed", type=int, default=0, help="not negative (default: 0)")
    options = parser.parse_args(arguments)
    try:
        write_shape(options.shape, options.out, options.seed, progress=sys.stderr.isatty())
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: {options.out.stat().st_size / 1e6:,.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
