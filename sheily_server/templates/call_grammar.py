"""The grammar of an answer that calls functions, in llguidance's Lark."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .base import Offer
from .lark import json_term

_TEXT = r"/[^\[{<\s](.|\n)*/"
"""Text that does not begin as a call may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallForm:
    """How a model writes calls: an object with a name and, as `arguments`, what the function takes.
    `begin` and `end` are around each, `separator` between two."""

    arguments: str
    begin: str = ""
    end: str = ""
    separator: str

    def head(self, name: str) -> str:
        """Returns what stands before the arguments of a call."""
        return f'{self.begin}{{"name": "{name}", "{self.arguments}": '

    @property
    def tail(self) -> str:
        """What stands behind the arguments of a call."""
        return "}" + self.end


def call_grammar(offered: Offer, form: CallForm, text: str | None = None) -> str:
    """Returns a grammar of calls as objects. Unless a call is forced, the answer may also be the
    JSON of the term `text`. Without `text`, the grammar binds once the answer begins like a
    call."""
    calls = (
        f"start: call ({json.dumps(form.separator)} call)*" if offered.several else "start: call"
    )
    if offered.forced:
        text = None
    elif text is not None:
        calls = calls.replace("start: ", "start: text | ") + f"\ntext: {text}"
    else:
        calls = calls.replace("start: ", "start: TEXT | ") + f"\nTEXT: {_TEXT}"
    names = [f"call_{i}" for i in range(len(offered.functions))]
    lines = [calls, f"call: {' | '.join(names)}"]
    for name, function in zip(names, offered.functions, strict=True):
        # Not one schema of the whole call: a $ref starts at the root of its own schema.
        head = " ".join(map(json.dumps, _head(form, function.name, text)))
        lines.append(f"{name}: {head} {name}_parameters {json.dumps(form.tail)}")
        lines.append(f"{name}_parameters: {json_term(function.schema())}")
    return "\n".join(lines)


def _head(form: CallForm, name: str, text: str | None) -> list[str]:
    """Returns the beginning of a call, cut into the pieces that the lexer can tell from those of
    other JSON. It takes the longest piece that fits, and never goes back.

    Objects that begin with the key "name" are then calls, unless the other JSON may have that key.
    """
    whole = form.head(name)
    if text is None or form.begin:
        return [whole]
    if '"name"' not in text:
        return [whole[:1], whole[1:]]
    return ["{", '"name"', ": ", f'"{name}"', ", ", f'"{form.arguments}"', ": "]
