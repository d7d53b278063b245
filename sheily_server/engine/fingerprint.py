"""What tells builds and models apart: the `system_fingerprint` of responses, and the identity of a
model's file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping

import sheily_native

SAMPLE_BYTES = 1 << 20
N_SAMPLES, A_SAMPLE = 64, 1 << 16


def identity(model_path: str) -> str:
    """Returns a hash that is equal for files of the same model, whatever runs it: of the size, and
    of samples spread evenly from the first byte to the last. Raises OSError."""
    digest = hashlib.blake2b(digest_size=32)
    with open(model_path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode())
        for i in range(N_SAMPLES):
            file.seek(i * max(0, size - A_SAMPLE) // (N_SAMPLES - 1))
            digest.update(file.read(A_SAMPLE))
    return digest.hexdigest()


def kind_of_cells(metadata: Mapping[str, str], kv_type: str, n_cells: int) -> str:
    """Returns what a context's cells depend on beside the model and the tokens: their type, and for
    models made longer than they were first trained, whether there are more cells than that, as
    llama.cpp may turn keys by other angles then."""
    name = metadata.get("general.architecture", "")
    first = metadata.get(f"{name}.rope.scaling.original_context_length", "")
    return f"{kv_type} long" if first.isdigit() and n_cells > int(first) else kv_type


def fingerprint(model_path: str) -> str:
    """Returns `fp_` and 12 hexadecimal digits: a hash of the build and of the file's size,
    beginning (all metadata and the first tensors) and end. Hashing all of it would take too
    long."""
    digest = hashlib.sha256()
    build = sheily_native.build_info()
    for field in dataclasses.fields(build):
        digest.update(f"{field.name}={getattr(build, field.name)};".encode())
    with open(model_path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode())
        for offset in (0, max(0, size - SAMPLE_BYTES)):
            file.seek(offset)
            digest.update(file.read(SAMPLE_BYTES))
    return f"fp_{digest.hexdigest()[:12]}"
