"""Decides which of the server's settings apply to this machine. Pure."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..protocol.commands import Start


def settled(start: Start, cpu: str) -> tuple[Start, list[str]]:
    """Returns the command with settings for `cpu`, and warnings."""
    tuned = start.tuned
    if tuned is None:
        return start, []
    if tuned.cpu != cpu:
        sentence = f"{tuned.path} was made on {tuned.cpu}, this is {cpu}: it has no effect"
        return msgspec.structs.replace(start, **tuned.otherwise), [sentence]
    name = Path(start.model_path).name
    if tuned.model != name:
        return start, [f"{tuned.path} was made with {tuned.model}, not {name}: it is used anyway"]
    return start, []
