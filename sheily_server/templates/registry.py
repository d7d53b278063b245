"""Messages to prompt segments in the dialect of the model; knows no tokenizer and no HTTP."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..protocol.messages import Dialect, Segment
from . import chatml, llama3
from .base import Message

SUPPORTED: tuple[str, ...] = ("llama3", "chatml")

_DESCRIPTIONS = (
    "llama3 (Llama 3.1, 3.2 and 3.3 Instruct)",
    "chatml (plain ChatML, such as SmolLM2 and Qwen2.5 Instruct)",
)


class UnknownDialectError(ValueError):
    """The model's chat template is none that this package renders."""


def recognize(metadata: Mapping[str, str]) -> Dialect:
    """The dialect of a model, from the metadata of its GGUF file.

    Reads `tokenizer.chat_template` by pattern and never executes it. Raises UnknownDialectError
    with one sentence that names what was found and what is supported.
    """
    template = metadata.get("tokenizer.chat_template", "")
    if llama3.recognizes(template):
        return Dialect("llama3")
    if chatml.recognizes(template):
        return Dialect("chatml", chatml.default_system(template))
    raise UnknownDialectError(_not_recognized(metadata, template))


def markers(dialect: Dialect) -> tuple[str, ...]:
    """Every marker that `render` may emit; each has to be one control token of the vocabulary."""
    if dialect.name == "llama3":
        return llama3.MARKERS
    if dialect.name == "chatml":
        return chatml.MARKERS
    raise _no_such(dialect)


def check(
    dialect: Dialect,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Raise PromptError where `render` would.

    For a conversation as it was sent, before its history is cut: the indexes in the error's
    `param` are then those the sender knows.
    """
    render(dialect, messages, date=datetime.date.min, tools=tools)


def render(
    dialect: Dialect,
    messages: Sequence[Message],
    *,
    date: datetime.date,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[Segment]:
    """The prompt that asks for the next assistant message, generation prompt included.

    Joined, the segments' texts are what the model's own chat template gives. Raises PromptError
    for a conversation that the dialect cannot express.
    """
    if dialect.name == "llama3":
        return llama3.render(messages, date=date, tools=tools)
    if dialect.name == "chatml":
        return chatml.render(messages, default_system=dialect.default_system, tools=tools)
    raise _no_such(dialect)


def _no_such(dialect: Dialect) -> UnknownDialectError:
    return UnknownDialectError(
        f"there is no prompt dialect {dialect.name!r}; supported: {', '.join(SUPPORTED)}"
    )


def _not_recognized(metadata: Mapping[str, str], template: str) -> str:
    model = metadata.get("general.name", "unnamed")
    architecture = metadata.get("general.architecture", "unknown")
    if template:
        found = re.findall(r"<[^<>\s'\"{}]{2,40}>|\[/?[A-Z_]{3,40}\]", template)
        listed = " ".join(list(dict.fromkeys(found))[:6]) or "none"
        problem = f"a chat template that is not known (its markers: {listed})"
    else:
        problem = "no chat template (tokenizer.chat_template)"
    return (
        f"the model {model!r} (architecture: {architecture}) has {problem}; "
        f"supported prompt dialects: {', '.join(_DESCRIPTIONS)}"
    )
