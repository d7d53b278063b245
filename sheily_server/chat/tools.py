"""Function calls: what a request offers the model, and what the model wrote, in its three forms.

Meta documents the forms at https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_2/:
an object with `name` and `parameters`; a Python list of calls; and either of them, or
`name.call(...)`, behind `<|python_tag|>`. Knows nothing of HTTP or tokens.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..api.openai_chat.protocol import ChatRequest, NamedToolChoice, Tool
from ..errors import InvalidRequestError
from ..protocol.messages import Grammar
from .schemas import check_schema, schema_fragment

PYTHON_TAG = "<|python_tag|>"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_KNOWN_ESCAPES = frozenset("\n\\'\"abfnrtvxuUN01234567")


@dataclass(frozen=True, slots=True)
class Call:
    """A call the model made; `arguments` is a JSON object as text, as OpenAI returns it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Offer:
    """The functions of a request that the model may call.

    `tools` go into the prompt; empty when there are none or the request forbids calls. `forced`:
    the answer has to be a call. `several`: it may be more than one. `first` is the first one's
    place among the request's tools.
    """

    tools: tuple[Tool, ...]
    forced: bool
    several: bool
    first: int = 0

    @property
    def rendered(self) -> list[dict[str, Any]]:
        """The tools as the template writes them: OpenAI's objects, without what is not set."""
        return [tool.as_json() for tool in self.tools]

    @property
    def binding(self) -> bool:
        """Whether calls have to follow the functions' schemas."""
        return self.forced or any(tool.function.strict for tool in self.tools)

    def grammar(self) -> Grammar | None:
        """What the answer has to follow; None when it is free. Functions that are `strict` bind
        the answer as soon as it begins like a call."""
        if not self.binding:
            return None
        calls = 'start: call ("; " call)*' if self.several else "start: call"
        if not self.forced:
            calls = calls.replace("start: ", "start: TEXT | ") + "\nTEXT: /[^\\[{<\\s](.|\\n)*/"
        lines = [calls]
        names = [f"call_{i}" for i in range(len(self.tools))]
        lines.append(f"call: {' | '.join(names)}")
        for name, tool in zip(names, self.tools, strict=True):
            # Not one schema of the whole call: a $ref counts from the root of its own schema.
            head = json.dumps(f'{{"name": "{tool.function.name}", "parameters": ')
            lines.append(f'{name}: {head} {name}_parameters "}}"')
            lines.append(f"{name}_parameters: {schema_fragment(tool.function.schema())}")
        schemas = {
            f"tools[{i}].function.parameters": json.dumps(tool.function.schema())
            for i, tool in enumerate(self.tools, self.first)
        }
        return Grammar("\n".join(lines), "tools", schemas)


def offer(request: ChatRequest) -> Offer:
    """What a request offers. Raises InvalidRequestError when it chooses a function that it does not
    offer, or wants calls to follow a schema that is none of an object or too large."""
    tools = tuple(request.tools or ())
    names = [tool.function.name for tool in tools]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InvalidRequestError(
                f"Two tools have the name {name!r}.", f"tools[{i}].function.name"
            )
    offered = _offer(request, tools)
    for i, tool in enumerate(tools):
        if offered.binding and tool in offered.tools:
            _check_parameters(tool, f"tools[{i}].function.parameters")
    return offered


def _offer(request: ChatRequest, tools: tuple[Tool, ...]) -> Offer:
    choice = request.tool_choice
    several = request.parallel_tool_calls is True
    if choice is None or choice == "auto":
        return Offer(tools, forced=False, several=several)
    if choice == "none":
        return Offer((), forced=False, several=False)
    if not tools:
        raise InvalidRequestError("tool_choice needs tools to choose from.", "tool_choice")
    if isinstance(choice, NamedToolChoice):
        chosen = tuple(tool for tool in tools if tool.function.name == choice.function.name)
        if not chosen:
            raise InvalidRequestError(
                f"There is no tool with the name {choice.function.name!r}.",
                "tool_choice.function.name",
            )
        return Offer(chosen, forced=True, several=False, first=tools.index(chosen[0]))
    return Offer(tools, forced=True, several=several)


def _check_parameters(tool: Tool, param: str) -> None:
    schema = tool.function.schema()
    if schema["type"] != "object":
        raise InvalidRequestError("The schema of parameters must have the type object.", param)
    check_schema(schema, param)


def begins_like_a_call(text: str) -> bool:
    """Whether text that the model has begun with may become a call; true while it is undecided."""
    text = text.lstrip()
    return text[:1] in ("", "{", "[") or text.startswith(PYTHON_TAG) or PYTHON_TAG.startswith(text)


def parse_calls(text: str, offered: Offer) -> list[Call]:
    """The calls that a whole answer makes; empty when it is no call of an offered function."""
    text = text.strip().removeprefix(PYTHON_TAG).strip()
    calls = _parse_json(text) or _parse_python(text)
    names = {tool.function.name for tool in offered.tools}
    if not calls or not all(call.name in names for call in calls):
        return []
    return calls if offered.several else calls[:1]


def _parse_json(text: str) -> list[Call]:
    """One object, several with `;` or nothing between them, or a list of objects."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            return []
        found += value if isinstance(value, list) else [value]
        text = text[end:].lstrip(" \t\r\n;,")
    calls = [_from_object(value) for value in found]
    return [call for call in calls if call is not None] if all(calls) else []


def _from_object(value: Any) -> Call | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("parameters", value.get("arguments", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    return _call(value["name"], arguments)


def _parse_python(text: str) -> list[Call]:
    """`[f(a=1), g()]`, `f(a=1)` or `f.call(a=1)`, with literals as arguments."""
    try:
        tree = ast.parse(_ESCAPE.sub(_keep_backslash, text), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    nodes: Sequence[ast.expr] = tree.elts if isinstance(tree, ast.List) else [tree]
    calls = [_from_node(node) for node in nodes]
    return [call for call in calls if call is not None] if calls and all(calls) else []


def _from_node(node: ast.expr) -> Call | None:
    if not isinstance(node, ast.Call) or node.args:
        return None
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr == "call":
        function = function.value
    try:
        arguments = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
        return None if None in arguments else _call(ast.unparse(function), arguments)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None


def _keep_backslash(escape: re.Match[str]) -> str:
    """What Python makes of an escape that it does not know, without its warning."""
    return escape[0] if escape[1] in _KNOWN_ESCAPES else f"\\{escape[0]}"


def _call(name: str, arguments: Any) -> Call | None:
    """None where the arguments are no object, or none that JSON can say."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()  # fails for half of a surrogate pair, which an escape can write
    except (ValueError, TypeError, RecursionError):
        return None
    return Call(name, text) if isinstance(arguments, dict) else None
