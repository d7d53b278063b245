"""The `system_fingerprint` of responses: equal only for the same build and the same model."""

from __future__ import annotations

import dataclasses
import hashlib
import os

import sheily_native

SAMPLE_BYTES = 1 << 20


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
