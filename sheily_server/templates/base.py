"""The parts of a conversation, a prompt and a template. Knows no family of models."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, Protocol

from ..protocol.commands import Segment

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the assistant made. `arguments` is parsed, not OpenAI's JSON string."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, in plain form.

    `text` is never None: null content becomes `""`, and the caller joins content parts.
    `tool_calls` belongs to the assistant, `tool_call_id` to a tool's result.
    """

    role: Role
    text: str = ""
    _: KW_ONLY
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class PromptError(ValueError):
    """A conversation that the template cannot express.

    `param` names the place as OpenAI's errors do, such as `messages[3].tool_calls`. The index
    counts in the sequence of messages that was passed in.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def argument_place(name: str) -> str:
    """Returns what requests call an argument for the template."""
    return f"chat_template_kwargs.{name[:64]}"


def marker(text: str) -> Segment:
    """Makes a segment that is one control token."""
    return Segment(text, True)


def plain(text: str) -> Segment:
    """Makes a segment of text, not empty and with a marker or the prompt's end on either side.

    A text must reach the tokenizer in one piece, or it is split at the wrong places.
    """
    return Segment(text, False)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model may call. `parameters` is the JSON Schema of its arguments, which
    calls must follow if it is `strict`. `place` is where the request has that schema."""

    name: str
    _: KW_ONLY
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False
    place: str = ""

    def schema(self) -> dict[str, Any]:
        """Returns the schema of the arguments: an object, which is empty without `parameters`."""
        if self.parameters is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return {"type": "object"} | self.parameters

    def as_json(self) -> dict[str, Any]:
        """Returns the function as chat templates write it: without unset fields, and without
        `strict`, which is not for the model."""
        more = {"description": self.description, "parameters": self.parameters}
        given = {name: value for name, value in more.items() if value is not None}
        return {"type": "function", "function": {"name": self.name, **given}}


@dataclass(frozen=True, slots=True)
class Offer:
    """The functions that the model may call.

    They go into the prompt. There are none if the request has none or forbids calls. `forced`: the
    answer must be a call. `several`: it may be more than one.
    """

    functions: tuple[Function, ...] = ()
    forced: bool = False
    several: bool = False

    @property
    def rendered(self) -> list[dict[str, Any]]:
        return [function.as_json() for function in self.functions]

    @property
    def binding(self) -> bool:
        """Whether calls must follow the functions' schemas."""
        return self.forced or any(function.strict for function in self.functions)


@dataclass(frozen=True, slots=True)
class Call:
    """A call the model made; `arguments` is a JSON object as text, unfinished if the answer was cut
    off."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class CallPart:
    """The next part of a call. `index` counts the calls of an answer. The first part has the
    `name`; the joined `arguments` of all parts are those of the call; the last part `ends` it."""

    index: int
    _: KW_ONLY
    name: str | None = None
    arguments: str = ""
    ends: bool = False


class CallReader(Protocol):
    """Separates the text of one answer from its calls, while it arrives."""

    def feed(self, text: str) -> list[str | CallPart]:
        """Returns the texts and parts of calls that are certain now."""
        ...

    def end(self, *, cut: bool) -> list[str | CallPart]:
        """Returns the rest of an answer that has ended. `cut`: its length was limited."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSyntax:
    """How a family of models writes calls.

    `visible` are control tokens whose text is part of a call. `grammar` returns what an answer to
    an offer must follow, in llguidance's Lark. It takes the term for answers that are not calls;
    None leaves those free. `reader` returns a reader for one answer; it takes whether the answer
    follows such a grammar, so that only its beginning can be a call.
    """

    visible: tuple[str, ...]
    grammar: Callable[[Offer, str | None], str]
    reader: Callable[[Offer, bool], CallReader]


class Render(Protocol):
    """Renders a conversation as a prompt that asks for the next assistant message.

    `default_system` is what the model's file adds to a conversation without a system message.
    `arguments` are what a request gives the template; others than `Template.arguments` have no
    effect. Raises PromptError.
    """

    def __call__(
        self,
        messages: Sequence[Message],
        *,
        date: datetime.date,
        tools: Sequence[Mapping[str, Any]] | None = None,
        default_system: str | None = None,
        arguments: Mapping[str, object] | None = None,
    ) -> list[Segment]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Everything specific to the prompts of one family of models.

    `about` names the family in the error that refuses other models. `markers` are all that `render`
    may write, each one control token. `recognizes` checks a GGUF's chat template, and
    `default_system` returns the system text that the template adds. `arguments` are those of
    the template's variables that a request may set.
    """

    name: str
    about: str
    markers: tuple[str, ...]
    recognizes: Callable[[str], bool]
    render: Render
    default_system: Callable[[str], str | None] = lambda template: None
    calls: CallSyntax | None = None
    arguments: frozenset[str] = frozenset()
