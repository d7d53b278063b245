"""What a conversation and a rendered prompt are made of; knows no dialect and no wire format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..protocol.messages import Segment

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the assistant made; `arguments` is parsed, not OpenAI's JSON string."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, already in plain form.

    `text` is never None: a null content is `""` and content parts are joined by the caller.
    `tool_calls` belongs to the assistant, `tool_call_id` to a tool's result.
    """

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class PromptError(ValueError):
    """A conversation that the dialect cannot express.

    `param` names the place in the style of OpenAI's errors, such as `messages[3].tool_calls`;
    the index counts in the sequence of messages that was passed in.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def marker(text: str) -> Segment:
    """A segment that is one control token."""
    return Segment(text, True)


def plain(text: str) -> Segment:
    """A segment of text, not empty and with a marker on either side or the prompt's end.

    A text has to reach the tokenizer in one piece, or it is cut at the wrong places.
    """
    return Segment(text, False)
