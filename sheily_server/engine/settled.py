"""Decides which of the server's settings apply to this machine. Pure."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..protocol.commands import Start


def settled(start: Start, cpu: str, n_cpus: int) -> tuple[Start, list[str]]:
    """Returns the command with settings for `cpu`, of which this process may use `n_cpus`, and
    warnings."""
    start, sentences = _for_cpu(start, cpu)
    if start.threads > n_cpus:
        sentences.append(
            f"LLM_THREADS is {start.threads}, and this process may use "
            f"{n_cpus} CPU{'s' * (n_cpus != 1)}: more threads than that make it slower."
        )
    return start, sentences


def _for_cpu(start: Start, cpu: str) -> tuple[Start, list[str]]:
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
