"""Renders prompts of ChatML models such as SmolLM2 and Qwen2.5. Knows how turns are written, and in
which place of them tools are.

A message is `<|im_start|>role`, a newline, the text as it is, `<|im_end|>` and a newline. Many
models use this frame and add something of their own (thinking, a first token, trimmed text), so
`recognizes` refuses a template unless it understands all of it.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...protocol.commands import Segment
from ..base import Message, PromptError, Render, marker, plain
from .tools import ToolText

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


def renderer(text: ToolText) -> Render:
    """Returns the function that renders prompts with tools in this form."""

    def render(
        messages: Sequence[Message],
        *,
        date: datetime.date,
        tools: Sequence[Mapping[str, Any]] | None = None,
        default_system: str | None = None,
        arguments: Mapping[str, object] | None = None,
    ) -> list[Segment]:
        """Renders the prompt that asks for the next assistant message.

        Writes `default_system` first if the conversation does not begin with a system message.
        Raises PromptError.
        """
        if not messages:
            raise PromptError("a conversation needs at least one message", "messages")
        return list(_segments(messages, tools or (), default_system, text))

    return render


def _segments(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    default_system: str | None,
    text: ToolText,
) -> Iterator[Segment]:
    rest = list(enumerate(messages))
    system = default_system
    if messages[0].role == "system":
        system, rest = messages[0].text, rest[1:]
    if tools:
        system = text.system(system or "", tools)
    if system is not None:
        yield from _turn("system", f"\n{system}")
    for is_result, group in itertools.groupby(rest, lambda each: each[1].role == "tool"):
        if is_result:
            results = [text.result(message.text) for _, message in group]
            yield from _turn("user", "".join(results))
            continue
        for index, message in group:
            yield from _turn(message.role, _body(message, f"messages[{index}]", text))
    yield marker(IM_START)
    yield plain("assistant\n")


def _body(message: Message, param: str, text: ToolText) -> str:
    if not message.tool_calls:
        return f"\n{message.text}"
    if message.role != "assistant":
        raise PromptError(
            f"tool_calls belong to the assistant, not to the role {message.role!r}",
            f"{param}.tool_calls",
        )
    return text.assistant(message, param)


def _turn(role: str, body: str) -> Iterator[Segment]:
    yield marker(IM_START)
    yield plain(role + body)
    yield marker(IM_END)
    yield plain("\n")
