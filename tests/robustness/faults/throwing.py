"""Makes native calls throw, in a process that has the library with hooks; one line of JSON on what
they left behind. `python -m tests.robustness.faults.throwing PLACE`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sheily_native import Context, Entry, Model, OutOfMemoryError, Sampler, SamplingParams, kernels
from tests.support import models

TIMES = 8


@contextmanager
def throwing(place: str) -> Iterator[None]:
    os.environ["SHEILY_TEST_THROW"] = place
    try:
        yield
    finally:
        del os.environ["SHEILY_TEST_THROW"]


def fails(place: str, call: Callable[[], object]) -> None:
    """The call throws at the place, and says so; with a switch left set it would say that."""
    with throwing(place):
        try:
            call()
        except OutOfMemoryError:
            return
    raise AssertionError(f"nothing was thrown at {place}")


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def growth(place: str, call: Callable[[], object]) -> int:
    """Bytes that are left behind by further failures, the first having filled the caches."""
    fails(place, call)
    before = resident()
    for _ in range(TIMES):
        fails(place, call)
    return resident() - before


def model() -> dict[str, Any]:
    path = models.tiny_llama3()
    before = resident()
    with Model(path):
        one = resident() - before
    return {"one": one, "left": growth("model", lambda: Model(path))}


def context() -> dict[str, Any]:
    with Model(models.tiny_llama3()) as loaded:

        def make() -> Context:
            return Context(loaded, n_ctx=1 << 17)

        before = resident()
        with make() as made:
            one = min(resident() - before, made.kv_bytes)
        return {"one": one, "left": growth("context", make)}


def decode() -> dict[str, Any]:
    """A step that throws leaves the context as it was, and no sign of life."""
    with Model(models.tiny_llama3()) as loaded, Context(loaded, n_ctx=256) as made:
        sampler = Sampler(loaded.info.n_vocab, SamplingParams(temperature=0.0))
        made.step([Entry(0, [1, 2, 3])])
        fails("decode", lambda: made.step([Entry(0, [4, 5], sampler=sampler)]))
        heartbeat, length = made.heartbeat, made.length(0)
        [again] = made.step([Entry(0, [4, 5], sampler=sampler)])
        fails("decode", lambda: made.step([Entry(0, [6], logits=True)]))
        try:
            made.logits(0)
            logits = "there"
        except ValueError:
            logits = "none"
    with Model(models.tiny_llama3()) as loaded, Context(loaded, n_ctx=256) as made:
        made.step([Entry(0, [1, 2, 3])])
        [alone] = made.step([Entry(0, [4, 5], sampler=sampler)])
    return {
        "heartbeat": heartbeat,
        "length": length,
        "logits": logits,
        "same": again == alone,
    }


def share() -> dict[str, Any]:
    """Cells were taken from the target before the throw: its length says so."""
    with Model(models.tiny_llama3()) as loaded, Context(loaded, n_ctx=256, n_seq_max=2) as made:
        made.step([Entry(0, [1, 2, 3, 4]), Entry(1, [1, 2, 3, 4])])
        fails("share", lambda: made.share(0, 1, 1, 4))
        length = made.length(1)
        made.step([Entry(1, [2, 3])])
        return {"length": length, "then": made.length(1)}


def compute() -> dict[str, Any]:
    """Attention by our kernel, when the graph around it throws."""
    q = np.ones((1, 2, 16), np.float32)
    k = np.ones((4, 1, 16), np.float16)
    mask = np.zeros((1, 4), np.float16)
    names = kernels.usable()
    for name in names:
        fails("compute", partial(kernels.attend, name, q, k, k, mask=mask, scale=1.0))
    return {"kernels": len(names)}


def weights() -> dict[str, Any]:
    """A product whose weights cannot be repacked."""
    blocks = np.zeros((16, 1, kernels.BLOCK_BYTES), np.uint8)
    tokens = np.ones((1, 32), np.float32)
    names = kernels.usable()
    for name in names:
        fails("weights", partial(kernels.multiply, name, blocks, tokens))
    return {"kernels": len(names)}


def thread() -> dict[str, Any]:
    """A thread cannot be had while another already works."""
    blocks = np.zeros((64, 1, kernels.BLOCK_BYTES), np.uint8)
    tokens = np.ones((1, 32), np.float32)
    name = kernels.usable()[0]
    fails("thread", lambda: kernels.multiply(name, blocks, tokens, n_threads=2))
    fails("thread", lambda: kernels.integer_peak(name, n_threads=2, seconds=0.01))
    fails("thread", lambda: kernels.memory_bandwidth(n_threads=2, n_bytes=1 << 21, seconds=0.01))
    return {}


def cancel() -> dict[str, Any]:
    """A load stands still once it has begun; only its being cancelled lets it end."""
    os.environ["SHEILY_TEST_HOLD_LOAD"] = "1"

    def stop(fraction: float) -> None:
        if fraction > 0:
            raise OutOfMemoryError(f"at {fraction}")

    return {"left": growth("cancel", lambda: Model(models.tiny_llama3(), progress=stop))}


def progress() -> dict[str, Any]:
    """The model is there when the last word on its progress is refused."""

    def stop(fraction: float) -> None:
        if fraction == 1:
            raise OutOfMemoryError("at the end")

    return {"left": growth("progress", lambda: Model(models.tiny_llama3(), progress=stop))}


PLACES = {
    one.__name__: one
    for one in (model, context, decode, share, compute, weights, thread, cancel, progress)
}

if __name__ == "__main__":
    print(json.dumps(PLACES[sys.argv[1]]()))
