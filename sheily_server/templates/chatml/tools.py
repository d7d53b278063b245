"""Writes functions, calls and results into ChatML prompts, in two forms. Knows no markers.

The form with tags is that of Qwen2.5's chat template, to the character. The plain form is this
server's own, for models whose template has none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base import Message, PromptError
from ..call_grammar import CallForm
from .calls import PLAIN, TAGGED


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolText:
    """How tools are written: what is around the functions behind the system's text, calls, and what
    is around each result in a user's turn."""

    begin: str
    end: str
    calls: CallForm
    result_begin: str
    result_end: str = ""

    def system(self, text: str, tools: Sequence[Mapping[str, Any]]) -> str:
        """Returns the system's text with the functions behind it. Raises PromptError."""
        lines = [f"\n{_json(tool, f'tools[{i}]')}" for i, tool in enumerate(tools)]
        return f"{text}{self.begin}{''.join(lines)}{self.end}"

    def assistant(self, message: Message, param: str) -> str:
        """Returns the turn of a message with calls, without its role. Raises PromptError."""
        parts = [message.text] if message.text else []
        for call in message.tool_calls:
            arguments = _json(call.arguments, f"{param}.tool_calls")
            parts.append(f"{self.calls.head(call.name)}{arguments}{self.calls.tail}")
        return "".join(f"\n{part}" for part in parts)

    def result(self, text: str) -> str:
        """Returns the result of a call."""
        return f"{self.result_begin}{text}{self.result_end}"


TAGS = ToolText(
    begin=(
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
    ),
    end=(
        "\n</tools>\n\nFor each function call, return a json object with function name and "
        "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    ),
    calls=TAGGED,
    result_begin="\n<tool_response>\n",
    result_end="\n</tool_response>",
)
WITHOUT_TAGS = ToolText(
    begin="\n\nYou can call these functions:",
    end=(
        "\n\nTo call a function, answer with a JSON object and nothing else:\n"
        '{"name": <name of the function>, "arguments": <object of arguments>}'
    ),
    calls=PLAIN,
    result_begin="\nThe function returned: ",
)

_WORDS = (
    TAGS.begin,
    TAGS.end,
    '\n<tool_call>\n{"name": "',
    '", "arguments": ',
    "}\n</tool_call>",
    TAGS.result_begin,
    TAGS.result_end,
    "tool | tojson",
)


def has_tags(template: str) -> bool:
    """Whether a GGUF's chat template writes tools as TAGS does."""
    text = template.replace("\\n", "\n").replace('\\"', '"')
    return all(word in text for word in _WORDS)


def _json(value: Any, param: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise PromptError("the value is nested too deeply", param) from None
