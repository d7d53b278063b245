"""Says in plain words what msgspec finds wrong with a body. Knows its sentences and types, and no
dialect.

msgspec says `Expected X, got Y`, `Expected X >= 1`, `Object missing required field X`, `Invalid
value 'v'` and a few more, with the place behind it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, inspect

from .unknown import members

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_GOT = _WORDS | {"int": "a number", "float": "a number with a fraction", "bool": "a boolean"}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_COUNTED = {"array": ("item", "items"), "str": ("character", "characters")}
_ENTRIES = ("entry", "entries")
_MOST_REPEATED = 100
"""Characters of a wrong value that are repeated."""

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_WRONG_TYPE = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_WRONG_LENGTH = re.compile(r"Expected `(\w+)` of length (>=|<=) (\d+)")
_WRONG_NUMBER = re.compile(r"Expected `\w+` (>=|<=|>|<) (\S+)")
_WRONG_FORM = re.compile(r"Expected `str` matching regex (.*)", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `([^`]+)`")
_NO_CHOICE = re.compile(r"Invalid (?:enum )?value (.*)", re.DOTALL)


class Fault(NamedTuple):
    """What is wrong with a body: a sentence, OpenAI's `param` and `code`."""

    sentence: str
    param: str | None
    code: str


def fault(error: msgspec.ValidationError, shape: type[Struct], raw: Any) -> Fault:
    """Returns msgspec's error about `raw`, which it could not convert to `shape`."""
    said, at, path = str(error).rpartition(" - at `$")
    if not at:
        said, path = path, ""
    param = path.removesuffix("`").lstrip(".")
    subject = param or "The body"
    if found := _MISSING.fullmatch(said):
        param = f"{param}.{found[1]}".lstrip(".")
        return Fault(f"{param} is missing.", param, "missing_required_parameter")
    if found := _WRONG_TYPE.fullmatch(said):
        wanted, got = _either(found[1].split(" | ")), _GOT.get(found[2], found[2])
        return Fault(f"{subject} must be {wanted}, not {got}.", param or None, "invalid_type")
    return Fault(f"{subject} {_problem(said, shape, param, raw)}.", param or None, "invalid_value")


def _problem(said: str, shape: type[Struct], param: str, raw: Any) -> str:
    """Returns the end of a sentence about a value of the right type."""
    if found := _WRONG_LENGTH.fullmatch(said):
        names = _COUNTED.get(found[1], _ENTRIES)
        return f"must have {_BOUNDS[found[2]]} {found[3]} {names[found[3] != '1']}"
    if found := _WRONG_NUMBER.fullmatch(said):
        return f"must be {_BOUNDS[found[1]]} {found[2].removesuffix('.0')}"
    if found := _WRONG_FORM.fullmatch(said):
        return f"must match the expression {found[1]}"
    if found := _NO_CHOICE.fullmatch(said):
        known = list(map(str, choices(shape, param, raw)))
        value = found[1] if len(found[1]) <= _MOST_REPEATED else f"{found[1][:_MOST_REPEATED]}…"
        if len(known) == 1:
            return f"is {value}; it can only be {known[0]}"
        return f"is {value}, not one of {', '.join(known)}" if known else f"cannot be {value}"
    return f"cannot be used: {said}"


def choices(shape: type[Struct], param: str, raw: Any) -> list[Any]:
    """Returns the values that may stand at a place of a body: those of a literal type, or the tags
    of a union. `raw` is the body, whose tags say which structs the place is in."""
    kinds = [_info(shape)]
    steps = [name or index for name, index in _STEP.findall(param)]
    for i, step in enumerate(steps):
        if i == len(steps) - 1 and (tags := _tags(kinds, step)):
            return tags
        kinds = [inner for kind in kinds for inner in _inside(kind, step, raw)]
        raw = _item(raw, step)
    literals = [one for kind in kinds for one in members(kind)]
    return [
        value for one in literals if isinstance(one, inspect.LiteralType) for value in one.values
    ]


_info: Callable[[type[Struct]], inspect.Type] = functools.cache(inspect.type_info)


def _tags(kinds: Sequence[inspect.Type], step: str) -> list[Any]:
    structs = [one for kind in kinds for one in members(kind)]
    return [
        one.tag for one in structs if isinstance(one, inspect.StructType) and one.tag_field == step
    ]


def _inside(kind: inspect.Type, step: str, raw: Any) -> Iterator[inspect.Type]:
    """Yields the types that a step further into a value may have."""
    for one in members(kind):
        if isinstance(one, inspect.ListType) and step.isdigit():
            yield one.item_type
        elif isinstance(one, inspect.DictType) and step == "...":
            yield one.value_type
        elif isinstance(one, inspect.StructType):
            tag = raw.get(one.tag_field) if isinstance(raw, dict) and one.tag_field else one.tag
            if tag == one.tag:
                yield from (each.type for each in one.fields if each.encode_name == step)


def _item(raw: Any, step: str) -> Any:
    if isinstance(raw, dict):
        return raw.get(step)
    if isinstance(raw, list) and step.isdigit() and int(step) < len(raw):
        return raw[int(step)]
    return None


def _either(types: list[str]) -> str:
    *first, last = (_WORDS.get(name, name) for name in types)
    return f"{', '.join(first)} or {last}" if first else last
