"""Renders prompts of plain ChatML models such as SmolLM2 and Qwen2.5. Knows no tools yet.

A message is `<|im_start|>role`, a newline, the text as it is, `<|im_end|>` and a newline. Many
models use this frame and add something of their own (thinking, a first token, trimmed text), so
`recognizes` refuses a template unless it understands all of it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...protocol.commands import Segment
from ..base import Message, PromptError, marker, plain

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"

MARKERS = (IM_START, IM_END)

_FOREIGN = re.compile(r"<\|(?!(?:im_start|im_end|endoftext)\|>)\w+\|>|bos_token|</?think|thinking")

# A template has a newline either as itself or as backslash and n.
_NEWLINE = r"(?:\n|\\n)"
_FIELD = r"message(?:\.{0}|\[['\"]{0}['\"]\])"

_MESSAGE = re.compile(
    rf"""['"]<\|im_start\|>['"]\s*\+\s*{_FIELD.format("role")}\s*\+\s*['"]{_NEWLINE}['"]\s*\+\s*"""
    rf"""{_FIELD.format("content")}\s*\+\s*['"]<\|im_end\|>(?:['"]\s*\+\s*['"])?{_NEWLINE}['"]"""
)
_GENERATION_PROMPT = re.compile(
    r"if\s+add_generation_prompt\s*-?%\}\s*"
    rf"""\{{\{{-?\s*(['"])<\|im_start\|>assistant{_NEWLINE}\1\s*-?\}}\}}\s*"""
    r"\{%-?\s*endif\s*-?%\}\s*\Z"
)
_DEFAULT_SYSTEM = re.compile(
    rf"""(['"])<\|im_start\|>system{_NEWLINE}((?:\\.|(?!\1)[^\\])*?)<\|im_end\|>{_NEWLINE}\1""",
    re.DOTALL,
)
_ASKS_FOR_SYSTEM = re.compile(r"""[!=]=\s*['"]system['"]""")

_ESCAPES = {"n": "\n", "t": "\t"}


def recognizes(template: str) -> bool:
    """Whether a GGUF's chat template writes this format and nothing else.

    Checks by pattern how a message is written, that the generation prompt comes last, and that a
    default system message depends on the first message's role.
    """
    default = _DEFAULT_SYSTEM.search(template)
    return (
        _FOREIGN.search(template) is None
        and _MESSAGE.search(template) is not None
        and _GENERATION_PROMPT.search(template) is not None
        and (default is None or _ASKS_FOR_SYSTEM.search(template, 0, default.start()) is not None)
    )


def default_system(template: str) -> str | None:
    """Returns the template's system text for conversations that have none; None without one.

    Cuts the text out of a string literal of the template, which is never executed.
    """
    found = _DEFAULT_SYSTEM.search(template)
    if found is None:
        return None
    return re.sub(
        r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), found[2], flags=re.DOTALL
    )


def render(
    messages: Sequence[Message],
    *,
    date: datetime.date = datetime.date.min,
    tools: Sequence[Mapping[str, Any]] | None = None,
    default_system: str | None = None,
) -> list[Segment]:
    """Renders the prompt that asks for the next assistant message.

    Writes `default_system` first if the conversation does not begin with a system message. Raises
    PromptError.
    """
    if tools:
        raise PromptError("tools are not supported with this model (ChatML)", "tools")
    if not messages:
        raise PromptError("a conversation needs at least one message", "messages")
    return list(_segments(messages, default_system))


def _segments(messages: Sequence[Message], default_system: str | None) -> Iterator[Segment]:
    if default_system is not None and messages[0].role != "system":
        yield from _turn("system", default_system)
    for index, message in enumerate(messages):
        _refuse_tool_use(message, f"messages[{index}]")
        yield from _turn(message.role, message.text)
    yield marker(IM_START)
    yield plain("assistant\n")


def _refuse_tool_use(message: Message, param: str) -> None:
    if message.tool_calls:
        raise PromptError(
            "tool calls are not supported with this model (ChatML)", f"{param}.tool_calls"
        )
    if message.role == "tool":
        raise PromptError(
            "tool results are not supported with this model (ChatML)", f"{param}.role"
        )


def _turn(role: str, text: str) -> Iterator[Segment]:
    yield marker(IM_START)
    yield plain(f"{role}\n{text}")
    yield marker(IM_END)
    yield plain("\n")
