"""Function calls as Llama 3 writes them, in three forms.

Meta documents the forms at https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_2/: an
object with `name` and `parameters`; a Python list of calls; and either of them, or
`name.call(...)`, after `<|python_tag|>`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from ..base import Call, Offer
from ..lark import json_term

PYTHON_TAG = "<|python_tag|>"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_KNOWN_ESCAPES = frozenset("\n\\'\"abfnrtvxuUN01234567")


def grammar(offered: Offer) -> str:
    """Returns a grammar of calls as objects. Unless a call is forced, the answer may also be text:
    the grammar binds once the answer begins like a call."""
    calls = 'start: call ("; " call)*' if offered.several else "start: call"
    if not offered.forced:
        calls = calls.replace("start: ", "start: TEXT | ") + "\nTEXT: /[^\\[{<\\s](.|\\n)*/"
    names = [f"call_{i}" for i in range(len(offered.functions))]
    lines = [calls, f"call: {' | '.join(names)}"]
    for name, function in zip(names, offered.functions, strict=True):
        # Not one schema of the whole call: a $ref starts at the root of its own schema.
        head = json.dumps(f'{{"name": "{function.name}", "parameters": ')
        lines.append(f'{name}: {head} {name}_parameters "}}"')
        lines.append(f"{name}_parameters: {json_term(function.schema())}")
    return "\n".join(lines)


def may_begin(text: str) -> bool:
    """Whether an answer with this beginning may become a call; true while undecided."""
    text = text.lstrip()
    return text[:1] in ("", "{", "[") or text.startswith(PYTHON_TAG) or PYTHON_TAG.startswith(text)


def parse(text: str) -> list[Call]:
    """Returns the calls that a whole answer makes; empty if it makes none."""
    text = text.strip().removeprefix(PYTHON_TAG).strip()
    return _parse_json(text) or _parse_python(text)


def _parse_json(text: str) -> list[Call]:
    """Parses one object, several with `;` or nothing between them, or a list of objects."""
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
    """Parses `[f(a=1), g()]`, `f(a=1)` or `f.call(a=1)`, with literals as arguments."""
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
    """Returns what Python makes of an escape that it does not know, without its warning."""
    return escape[0] if escape[1] in _KNOWN_ESCAPES else f"\\{escape[0]}"


def _call(name: str, arguments: Any) -> Call | None:
    """Makes a call; None if the arguments are not an object, or cannot be written as JSON."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()  # fails for a lone surrogate, which an escape can produce
    except (ValueError, TypeError, RecursionError):
        return None
    return Call(name, text) if isinstance(arguments, dict) else None
