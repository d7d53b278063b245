"""What a conversation, a prompt and a template are made of; knows no family of models."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, Protocol

from ..protocol.commands import Segment

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
    _: KW_ONLY
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class PromptError(ValueError):
    """A conversation that the template cannot express.

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


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model may call. `parameters` is the JSON Schema of its arguments, which
    calls have to follow where it is `strict`; `place` is where the request has that schema."""

    name: str
    _: KW_ONLY
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False
    place: str = ""

    def schema(self) -> dict[str, Any]:
        """The schema of its arguments, which are an object; without parameters there are none."""
        if self.parameters is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return {"type": "object"} | self.parameters

    def as_json(self) -> dict[str, Any]:
        """The function as chat templates write it: without what is not set, and without `strict`,
        which is not for the model."""
        more = {"description": self.description, "parameters": self.parameters}
        given = {name: value for name, value in more.items() if value is not None}
        return {"type": "function", "function": {"name": self.name, **given}}


@dataclass(frozen=True, slots=True)
class Offer:
    """The functions that the model may call.

    They go into the prompt; there are none where the request has none or forbids calls. `forced`:
    the answer has to be a call. `several`: it may be more than one.
    """

    functions: tuple[Function, ...] = ()
    forced: bool = False
    several: bool = False

    @property
    def rendered(self) -> list[dict[str, Any]]:
        return [function.as_json() for function in self.functions]

    @property
    def binding(self) -> bool:
        """Whether calls have to follow the functions' schemas."""
        return self.forced or any(function.strict for function in self.functions)


@dataclass(frozen=True, slots=True)
class Call:
    """A call the model made; `arguments` is a JSON object as text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSyntax:
    """How a family of models writes calls.

    `visible` are control tokens whose text is part of a call. `grammar` is what an answer to a
    binding offer has to follow, in llguidance's Lark. `may_begin` tells of the beginning of an
    answer whether it may become a call, and is true while that is undecided; `parse` gives the
    calls that a whole answer makes, none where it is text.
    """

    visible: tuple[str, ...]
    grammar: Callable[[Offer], str]
    may_begin: Callable[[str], bool]
    parse: Callable[[str], list[Call]]


class Render(Protocol):
    """Writes a conversation as a prompt that asks for the next assistant message.

    `default_system` is what the model's file adds to a conversation without a system message.
    Raises PromptError.
    """

    def __call__(
        self,
        messages: Sequence[Message],
        *,
        date: datetime.date,
        tools: Sequence[Mapping[str, Any]] | None = None,
        default_system: str | None = None,
    ) -> list[Segment]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """All that is special to the prompts of one family of models.

    `about` names the family in the sentence that refuses others. `markers` are all that `render`
    may write, each one control token. `recognizes` reads a GGUF's chat template, and
    `default_system` what it adds.
    """

    name: str
    about: str
    markers: tuple[str, ...]
    recognizes: Callable[[str], bool]
    render: Render
    default_system: Callable[[str], str | None] = lambda template: None
    calls: CallSyntax | None = None
