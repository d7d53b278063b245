"""Messages to prompt segments in the dialect of the model; knows no tokenizer and no HTTP."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..protocol.messages import Dialect, Segment
from . import chatml, llama3
from .base import Message, Template

TEMPLATES = {each.name: each for each in (llama3.TEMPLATE, chatml.TEMPLATE)}


class UnknownDialectError(ValueError):
    """The model's chat template is none that this package renders."""


def recognize(metadata: Mapping[str, str]) -> Dialect:
    """The dialect of a model, from the metadata of its GGUF file.

    Reads `tokenizer.chat_template` by pattern and never executes it. Raises UnknownDialectError
    with one sentence that names what was found and what is supported.
    """
    found = metadata.get("tokenizer.chat_template", "")
    for template in TEMPLATES.values():
        if template.recognizes(found):
            return Dialect(template.name, template.default_system(found))
    raise UnknownDialectError(_not_recognized(metadata, found))


def template_of(dialect: Dialect) -> Template:
    """The template of a dialect. Raises UnknownDialectError."""
    if dialect.name not in TEMPLATES:
        raise UnknownDialectError(
            f"there is no prompt dialect {dialect.name!r}; supported: {', '.join(TEMPLATES)}"
        )
    return TEMPLATES[dialect.name]


def markers(dialect: Dialect) -> tuple[str, ...]:
    """Every marker that `render` may emit; each has to be one control token of the vocabulary."""
    return template_of(dialect).markers


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
    return template_of(dialect).render(
        messages, date=date, tools=tools, default_system=dialect.default_system
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
    supported = ", ".join(f"{each.name} ({each.about})" for each in TEMPLATES.values())
    return (
        f"the model {model!r} (architecture: {architecture}) has {problem}; "
        f"supported prompt dialects: {supported}"
    )
