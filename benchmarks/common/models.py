"""Where benchmarks keep what they make, and the models that they run on."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.make_gguf import write_shape

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "build" / "bench-models"
SCRATCH = ROOT / "build" / "peers"
"""Programs and environments of peers, which are built once."""


def shape_file(name: str) -> Path:
    """The model of that shape; made where it is missing, minutes and 3.4 GB for the 3B one."""
    path = MODELS / f"llama3-{name}.gguf"
    if not path.exists():
        MODELS.mkdir(parents=True, exist_ok=True)
        print(f"making {path}, once", file=sys.stderr)
        write_shape(name, path, progress=sys.stderr.isatty())
    return path
