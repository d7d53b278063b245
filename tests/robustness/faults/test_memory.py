"""Less memory than the model needs: a reason, and no second try."""

from __future__ import annotations

from pathlib import Path

import pytest

from sheily_server.client import LLMAPIError
from tests.robustness.faults.report import note
from tests.support import models
from tests.support.real_server import RealServer
from tools import make_gguf
from tools.gguf_file import ALIGNMENT, encode, read_metadata, write_header

GIB = 1 << 30


def failed(server: RealServer) -> str:
    """Why the server cannot serve: it says the same to everyone, and has not tried again."""
    server.wait_for_state("failed")
    health = server.health()
    assert health["engine_restarts"] == 0
    reason: str = health["reason"]
    with pytest.raises(LLMAPIError) as caught:
        server.client.chat("hello")
    assert (caught.value.status, caught.value.code) == (500, "model_unavailable")
    assert reason in str(caught.value)
    return reason


def test_a_context_that_does_not_fit() -> None:
    sizes = {"context_size": 100_000, "kv_tokens": 6_400_000, "parallel": 64}
    limited = RealServer(models.tiny_llama3(), 2 * GIB, **sizes)
    with limited as server:
        reason = failed(server)
    assert "memory" in reason or "cells" in reason
    note("context too large for the memory", 1, "failed, with the reason", reason=reason)


def test_a_model_that_does_not_fit(tmp_path: Path) -> None:
    """The limit is more than both processes take, and less than the weights on top of that."""
    path = tmp_path / "large.gguf"
    _write_hollow("1b", path)
    with RealServer(path, int(1.25 * GIB), context_size=256, parallel=1, queue=0) as server:
        reason = failed(server)
    assert str(path) in reason or "memory" in reason
    note("model too large for the memory", 1, "failed, with the reason", reason=reason)


def _write_hollow(name: str, path: Path) -> None:
    """A model of a shape whose weights are all zeros, which take no room on the disk."""
    shape = make_gguf.SHAPES[name]
    sizes = {
        "block_count": shape.layers,
        "embedding_length": shape.width,
        "feed_forward_length": shape.ffn,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head,
        "attention.value_length": shape.head,
        "rope.dimension_count": shape.head,
    }
    fields = read_metadata(models.tiny_llama3())
    fields |= {f"llama.{key}": encode(size) for key, size in sizes.items()}
    infos = [tensor.info for tensor in make_gguf.plan(shape)]
    with path.open("wb") as file:
        write_header(file, fields, infos)
        file.truncate(file.tell() + sum(info.nbytes + -info.nbytes % ALIGNMENT for info in infos))
