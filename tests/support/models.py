"""The models that tests run: made or fetched once, kept under the checkout."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LLAMA_CPP = ROOT / "vendor" / "llama.cpp"
VOCABULARY = LLAMA_CPP / "models" / "ggml-vocab-llama-bpe.gguf"
SMOLLM2 = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
EMPTY_GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0)
"""A whole GGUF file without metadata and tensors, for a fake engine."""
TINY = ROOT / "build" / "test-models" / "llama3-tiny.gguf"


def tiny_llama3() -> Path:
    """A few MB with Llama 3.2's architecture and real vocabulary, and random weights."""
    from tools import gguf_file, make_gguf

    made_by = max(Path(str(module.__file__)).stat().st_mtime for module in (gguf_file, make_gguf))
    if not TINY.exists() or TINY.stat().st_mtime < made_by:
        TINY.parent.mkdir(parents=True, exist_ok=True)
        fresh = TINY.with_suffix(f".{os.getpid()}")
        make_gguf.write_shape("tiny", fresh)
        fresh.replace(TINY)
    return TINY


def smollm2() -> Path:
    """The small real model. Skips the test, with what to type, when it was not fetched."""
    if not SMOLLM2.exists():
        pytest.skip("no SmolLM2: python -m sheily_server.cli fetch smollm2 --to models")
    return SMOLLM2
