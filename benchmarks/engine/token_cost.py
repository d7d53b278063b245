"""What a token costs a dense model: bytes read and multiply-adds, from the header of its GGUF."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from tools.gguf_file import read_layout

_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Of the weights alone; what the KV cache adds depends on the length of the context.

    `weight_bytes`: read from memory for one token. `multiply_adds`: of one token with its logits.
    `output_multiply_adds`: the part of it that a prompt needs for its last token only.
    """

    weight_bytes: int
    multiply_adds: int
    output_multiply_adds: int

    def prompt_multiply_adds(self, n_tokens: int) -> int:
        """What the products of a prompt take, with the logits of its last token."""
        return n_tokens * (self.multiply_adds - self.output_multiply_adds) + (
            self.output_multiply_adds
        )


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's name, how many weights it has, and its bytes in the file, padding included."""

    name: str
    weights: int
    nbytes: int


def token_cost(path: Path) -> TokenCost:
    """Raises ValueError for a file that is no GGUF, or a mixture of experts; OSError."""
    tensors = {tensor.name: tensor for tensor in read_tensors(path)}
    if any("_exps" in name for name in tensors):
        raise ValueError(f"{path} is a mixture of experts: which bytes a token reads is chance")
    if _EMBEDDING not in tensors:
        raise ValueError(f"{path} has no {_EMBEDDING}")
    # A tied embedding is the output matrix, read whole; else a token looks up one row of it.
    output = tensors.get(_OUTPUT, tensors[_EMBEDDING])
    read = [tensor for name, tensor in tensors.items() if name != _EMBEDDING or tensor is output]
    return TokenCost(
        weight_bytes=sum(tensor.nbytes for tensor in read),
        multiply_adds=sum(tensor.weights for tensor in read),
        output_multiply_adds=output.weights,
    )


def read_tensors(path: Path) -> list[Tensor]:
    """The tensors of a GGUF file, in the file's order. Raises ValueError, OSError."""
    layout = read_layout(path)
    ends = sorted(
        {tensor.offset for tensor in layout.tensors} | {path.stat().st_size - layout.data_begin}
    )
    following = dict(itertools.pairwise(ends))
    return [
        Tensor(tensor.name, math.prod(tensor.sizes), following[tensor.offset] - tensor.offset)
        for tensor in layout.tensors
    ]
