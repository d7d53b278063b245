"""Renders messages as prompt segments in the model's format. Knows no tokenizer and no HTTP."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..protocol.commands import PromptFormat, Segment
from . import chatml, llama3
from .base import Message, Template, plain

TEMPLATES = {each.name: each for each in (llama3.TEMPLATE, chatml.HERMES, chatml.TEMPLATE)}
"""In the order in which they are tried: Hermes is ChatML too."""


class UnknownPromptFormatError(ValueError):
    """The model's chat template is not one that this package renders."""


def recognize(metadata: Mapping[str, str]) -> PromptFormat:
    """Recognizes a model's prompt format from the metadata of its GGUF file.

    Reads `tokenizer.chat_template` by pattern and never executes it. Raises
    UnknownPromptFormatError, which says what was found and what is supported.
    """
    found = metadata.get("tokenizer.chat_template", "")
    for template in TEMPLATES.values():
        if template.recognizes(found):
            return PromptFormat(template.name, template.default_system(found))
    raise UnknownPromptFormatError(_not_recognized(metadata, found))


def template_of(prompt_format: PromptFormat) -> Template:
    """Returns the template of a format. Raises UnknownPromptFormatError."""
    if prompt_format.name not in TEMPLATES:
        raise UnknownPromptFormatError(
            f"there is no prompt format {prompt_format.name!r}; supported: {', '.join(TEMPLATES)}"
        )
    return TEMPLATES[prompt_format.name]


def markers(prompt_format: PromptFormat) -> tuple[str, ...]:
    """Returns all markers that `render` may emit. Each must be one control token of the model."""
    return template_of(prompt_format).markers


def render(
    prompt_format: PromptFormat,
    messages: Sequence[Message],
    *,
    date: datetime.date,
    tools: Sequence[Mapping[str, Any]] | None = None,
    continues: bool = False,
    arguments: Mapping[str, object] | None = None,
) -> list[Segment]:
    """Renders the prompt that asks for the next assistant message, generation prompt included. With
    `continues`, that message begins with the text of the last one.

    The joined texts of the segments are what the model's own chat template gives. Raises
    PromptError for a conversation that the format cannot express.
    """
    before = messages[:-1] if continues else messages
    segments = template_of(prompt_format).render(
        before,
        date=date,
        tools=tools,
        default_system=prompt_format.default_system,
        arguments=arguments,
    )
    if continues:
        # One segment with the generation prompt: texts that are parted give other tokens.
        segments[-1] = plain(segments[-1].text + messages[-1].text.lstrip())
    return segments


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
        f"supported prompt formats: {supported}"
    )
