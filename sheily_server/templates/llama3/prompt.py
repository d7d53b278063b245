"""Renders prompts of Llama 3.1, 3.2 and 3.3 Instruct. Knows the official template, but no
tokenizer.

The reference is Meta's chat template for Llama 3.2 Instruct. The output equals its result to the
character, oddities included: two sentences of the tool instructions have no space between them, a
tool's result is written as a JSON string, and with tools the first non-system message is written as
the user's, whatever its role.

In two cases the template has no answer, but this module has one:

- Several calls in one assistant message, where the template raises. The model is trained on one
  JSON object per call. Here the objects are separated by `"; "`: `{"name": "f", "parameters": {}};
  {"name": "g", "parameters": {}}`.
- Tools with a history whose first message is an assistant's call, as the question before it was cut
  off. The template writes the call's empty content as the user's and loses the call. Here the tools
  go in a user message with no text of its own, and the call is written after it.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...protocol.commands import Segment
from ..base import Message, PromptError, ToolCall, argument_place, marker, plain

BEGIN_OF_TEXT = "<|begin_of_text|>"
START_HEADER = "<|start_header_id|>"
END_HEADER = "<|end_header_id|>"
END_OF_TURN = "<|eot_id|>"

MARKERS = (BEGIN_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN)

_MARKERS_IN_TEMPLATES = frozenset(MARKERS) | {"<|eom_id|>", "<|python_tag|>"}
_WORDS_IN_TEMPLATES = (
    START_HEADER,
    END_HEADER,
    END_OF_TURN,
    "Cutting Knowledge Date: December 2023\\n",
    "Today Date: ",
    "Environment: ipython",
    '"parameters": ',
)

# Not strftime's %b, which follows the locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Far more than any model's context holds in practice.
_MAX_TOOL_CHARACTERS = 4 * 1024 * 1024

DATE, TOOLS_FOR_USER = "date_string", "tools_in_user_message"
ARGUMENTS = frozenset((DATE, TOOLS_FOR_USER))
"""The template's variables that a request may set: what the model is told is today, and whether
tools are in the first user message, or else in the system's."""
_LONGEST_DATE = 100

_SYSTEM_TOOL_INSTRUCTIONS = (
    "You have access to the following functions. To call a function, please respond with JSON "
    "for a function call."
    'Respond in the format {"name": function name, '
    '"parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
_TOOL_INSTRUCTIONS = (
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, '
    '"parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)


def recognizes(template: str) -> bool:
    """Whether a GGUF's chat template writes this format.

    The original Llama 3 has the same markers but no date block. Models made from Llama 3 for other
    ways of calling tools have other words around the markers. Both are refused.
    """
    found = set(re.findall(r"<\|\w+\|>", template))
    return found <= _MARKERS_IN_TEMPLATES and all(word in template for word in _WORDS_IN_TEMPLATES)


def render(
    messages: Sequence[Message],
    *,
    date: datetime.date,
    tools: Sequence[Mapping[str, Any]] | None = None,
    default_system: str | None = None,
    arguments: Mapping[str, object] | None = None,
) -> list[Segment]:
    """Renders the prompt that asks for the next assistant message.

    `date` is the date that the model is told is today. It stands near token 20, so a conversation
    should keep one. An empty `tools` counts as none. `arguments` are as in ARGUMENTS. Raises
    PromptError.
    """
    if not messages:
        raise PromptError("a conversation needs at least one message", "messages")
    given = arguments or {}
    for_user = given.get(TOOLS_FOR_USER)
    if not (for_user is None or isinstance(for_user, bool)):
        raise PromptError("it must be true or false", argument_place(TOOLS_FOR_USER))
    today = _today(date, given.get(DATE))
    return list(_segments(messages, today, tools or (), for_user is not False))


def _segments(
    messages: Sequence[Message], today: str, tools: Sequence[Mapping[str, Any]], for_user: bool
) -> Iterator[Segment]:
    system, rest = "", list(enumerate(messages))
    if messages[0].role == "system":
        system, rest = messages[0].text.strip(), rest[1:]
    yield marker(BEGIN_OF_TEXT)
    for_system = "" if for_user or not tools else _tool_text(_SYSTEM_TOOL_INSTRUCTIONS, tools)
    yield from _turn("system", _preamble(today, bool(tools)) + for_system + system)
    if tools and for_user:
        if not rest:
            raise PromptError(
                "tools are written into the first user message, and there is none", "messages"
            )
        question = ""
        if not rest[0][1].tool_calls:
            question, rest = rest[0][1].text.strip(), rest[1:]
        yield from _turn("user", _tool_text(_TOOL_INSTRUCTIONS, tools) + question)
    for index, message in rest:
        role = "ipython" if message.role == "tool" else message.role
        yield from _turn(role, _body(message, f"messages[{index}]"))
    yield from _header("assistant")
    yield plain("\n\n")


def _header(role: str) -> Iterator[Segment]:
    yield marker(START_HEADER)
    yield plain(role)
    yield marker(END_HEADER)


def _turn(role: str, body: str) -> Iterator[Segment]:
    yield from _header(role)
    yield plain("\n\n" + body)
    yield marker(END_OF_TURN)


def _today(date: datetime.date, given: object) -> str:
    """Returns what the model is told is today. Raises PromptError."""
    if given is None:
        return f"{date.day:02d} {_MONTHS[date.month - 1]} {date.year}"
    if not isinstance(given, str) or len(given) > _LONGEST_DATE:
        raise PromptError(
            f"it must be a text of at most {_LONGEST_DATE} characters", argument_place(DATE)
        )
    return given


def _preamble(today: str, with_tools: bool) -> str:
    environment = "Environment: ipython\n" if with_tools else ""
    return f"{environment}Cutting Knowledge Date: December 2023\nToday Date: {today}\n\n"


def _body(message: Message, param: str) -> str:
    if message.tool_calls:
        if message.role != "assistant":
            raise PromptError(
                f"tool_calls belong to the assistant, not to the role {message.role!r}",
                f"{param}.tool_calls",
            )
        return "; ".join(_call(call, f"{param}.tool_calls") for call in message.tool_calls)
    if message.role == "tool":
        return json.dumps(message.text, ensure_ascii=False)
    return message.text.strip()


def _call(call: ToolCall, param: str) -> str:
    try:
        parameters = json.dumps(call.arguments, ensure_ascii=False)
    except RecursionError:
        raise PromptError("the arguments are nested too deeply", param) from None
    return f'{{"name": "{call.name}", "parameters": {parameters}}}'


def _tool_text(instructions: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """Returns the instructions and the tools as indented JSON, in order, not escaped for HTML.

    Indentation multiplies size: a few MB of numbers under a thousand brackets become gigabytes.
    Writing therefore stops at _MAX_TOOL_CHARACTERS.
    """
    encoder = json.JSONEncoder(ensure_ascii=False, indent=4)
    pieces = [instructions]
    room = _MAX_TOOL_CHARACTERS
    for index, tool in enumerate(tools):
        try:
            for piece in encoder.iterencode(tool):
                pieces.append(piece)
                room -= len(piece)
                if room < 0:
                    raise PromptError("the tools are too long to be written", f"tools[{index}]")
        except RecursionError:
            raise PromptError("the tool is nested too deeply", f"tools[{index}]") from None
        pieces.append("\n\n")
    return "".join(pieces)
