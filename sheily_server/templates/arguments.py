"""Rewrites the arguments of a call, as models write them, to JSON while they arrive. Knows JSON,
Python's literals and the types in a JSON Schema, but not how a call looks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from .source import Source, Wait

MAX_DEPTH = 100
"""Most levels of objects and lists: what the API takes back in a conversation."""
MAX_WORD = 400
"""Most characters of a number or another word without quotes. Python's own JSON parser refuses
integers of more than 4,300 digits."""
_MAX_REFERENCES = 8

_PLAIN = re.compile(r"""[^"'\\]+""")
_WORD = re.compile(r"[\w.+-]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")
_LITERALS = {
    "true": "true",
    "True": "true",
    "false": "false",
    "False": "false",
    "null": "null",
    "None": "null",
}
_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v",
    "/": "/", "\\": "\\", '"': '"', "'": "'", "\n": "",
}  # fmt: skip
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_LOST = "\ufffd"


class MalformedError(ValueError):
    """Raised for text that is no value."""


class UnfinishedError(ValueError):
    """Raised when the text ends inside a value."""


class Arguments:
    """Reads values from a source and writes them as JSON, in the layout of json.dumps.

    Takes what models make of JSON: quotes and literals of Python, commas at the end, line breaks in
    strings, words without quotes. A string becomes a number, a boolean, a list or an object where
    the schema wants one and no string. What JSON cannot hold is written as null (NaN) or U+FFFD
    (half a surrogate pair). Takes time linear in the length of the text.
    """

    def __init__(
        self, source: Source, write: Callable[[str], None], schema: Mapping[str, Any]
    ) -> None:
        self._source = source
        self._write = write
        self._root = schema
        self._types: dict[int, frozenset[str]] = {}
        self._open: list[str] = []
        """What closes the strings, lists and objects that are open."""
        self._lacks = False
        """Whether a key has no value yet."""
        self._between = ""
        """What separates the next value from the one before it in a list."""

    def value(self, schema: Any = None) -> Wait[None]:
        """Reads one value. Raises MalformedError and UnfinishedError, after which `close` completes
        what was written."""
        source = self._source
        first = yield from self.next()
        if first == "{":
            source.skip()
            yield from self.members("}", ":", schema)
        elif first in "[(":
            source.skip()
            yield from self._items("]" if first == "[" else ")", schema)
        elif first in "\"'":
            yield from self._string(schema)
        else:
            yield from self._word(schema)

    def members(
        self, end: str, separator: str, schema: Any = None, key: str | None = None
    ) -> Wait[None]:
        """Reads the members of an object, up to and with its `end`. `key` is the first one's, if it
        was read with its separator. Raises as `value` does."""
        self._nest("{", "}")
        between = ""
        while True:
            if key is None:
                first = yield from self.next()
                if first in (end, ","):
                    self._source.skip()
                    if first == end:
                        return self._unnest()
                    continue
                key = yield from self._key()
                if (yield from self.next()) != separator:
                    raise MalformedError
                self._source.skip()
            self._write(f"{between}{_quoted(key)}: ")
            self._lacks = True
            yield from self.value(self._member(schema, key))
            key, between = None, ", "

    def close(self) -> None:
        """Writes what makes complete JSON of what was written so far."""
        if self._lacks:
            self._begin("null")
        while self._open:
            self._write(self._open.pop())

    def next(self) -> Wait[str]:
        """Returns the next character that is not blank, without taking it. Raises
        UnfinishedError."""
        first = yield from self._source.first()
        if not first:
            raise UnfinishedError
        return first

    def characters(self, put: Callable[[str], None]) -> Wait[None]:
        """Reads a string in quotes, and passes its text on as it arrives. Raises
        UnfinishedError."""
        source = self._source
        quote = source.skip()
        n_quotes = 1
        if (yield from source.peek()) == quote:
            source.skip()
            if (yield from source.peek()) != quote:
                return
            source.skip()
            n_quotes = 3
        n_seen, high = 0, ""
        while True:
            if text := source.run(_PLAIN):
                put(_LOST * bool(high) + quote * n_seen + text)
                n_seen, high = 0, ""
            first = yield from source.peek()
            if not first:
                raise UnfinishedError
            if first == quote:
                source.skip()
                n_seen += 1
                if n_seen == n_quotes:
                    put(_LOST * bool(high))
                    return
            elif first == "\\":
                source.skip()
                text = yield from self._escape()
                if high and "\udc00" <= text <= "\udfff":
                    text, high = _joined(high, text), ""
                put(_LOST * bool(high) + quote * n_seen)
                n_seen, high = 0, text if "\ud800" <= text <= "\udbff" else ""
                put("" if high else _LOST if "\udc00" <= text <= "\udfff" else text)
            elif first in "\"'":  # the other kind of quote
                put(_LOST * bool(high) + quote * n_seen + source.skip())
                n_seen, high = 0, ""

    def _items(self, end: str, schema: Any) -> Wait[None]:
        self._nest("[", "]")
        items = self._resolved(schema).get("items")
        between = ""
        while True:
            first = yield from self.next()
            if first in (end, ","):
                self._source.skip()
                if first == end:
                    return self._unnest()
                continue
            self._between = between
            yield from self.value(items)
            between = ", "

    def _string(self, schema: Any) -> Wait[None]:
        types = self._types_of(schema)
        if types and "string" not in types:
            yield from self._converted(types)
            return
        self._begin('"')
        self._open.append('"')
        yield from self.characters(lambda text: self._write(_quoted(text)[1:-1]))
        self._write(self._open.pop())

    def _converted(self, types: frozenset[str]) -> Wait[None]:
        """Reads a string where another type is wanted, and writes what it says if that is of such
        a type."""
        parts: list[str] = []
        yield from self.characters(parts.append)
        text = "".join(parts)
        inner: list[str] = []
        inner_text = Source(text, ended=True)
        reader = Arguments(inner_text, inner.append, {})
        try:
            yield from reader.value()
            whole = (yield from inner_text.first()) == ""
        except (MalformedError, UnfinishedError):
            whole = False
        value = "".join(inner)
        self._begin(_fitted(value, types) if whole and _fits(value, types) else _quoted(text))

    def _word(self, schema: Any) -> Wait[None]:
        """Reads a number, a literal, or another word, which becomes a string."""
        word, ended = yield from self._letters()
        if word in _LITERALS:
            self._begin(_LITERALS[word])
        elif (number := _number(word)) is not None:
            self._begin(_fitted(number, self._types_of(schema)))
        elif ended:
            raise UnfinishedError
        else:
            self._begin(_quoted(word))

    def _letters(self) -> Wait[tuple[str, bool]]:
        """Returns a word and whether the text ends with it."""
        word = ""
        while True:
            word += self._source.run(_WORD)
            first = yield from self._source.peek()
            if (first and not word) or len(word) > MAX_WORD:
                raise MalformedError
            if not first or not _WORD.match(first):
                return word, not first

    def _key(self) -> Wait[str]:
        first = yield from self._source.peek()
        if first not in "\"'":
            word, _ = yield from self._letters()
            return word
        parts: list[str] = []
        yield from self.characters(parts.append)
        return "".join(parts)

    def _escape(self) -> Wait[str]:
        """Reads what follows a backslash. What is no escape keeps its backslash."""
        first = yield from self._source.peek()
        if not first:
            raise UnfinishedError
        if first not in _HEX_DIGITS:
            self._source.skip()
            return _ESCAPES.get(first, f"\\{first}")
        kind, digits = self._source.skip(), ""
        while len(digits) < _HEX_DIGITS[kind]:
            digit = yield from self._source.peek()
            if not digit:
                raise UnfinishedError
            if digit not in "0123456789abcdefABCDEF":
                return f"\\{kind}{digits}"
            digits += self._source.skip()
        code = int(digits, 16)
        return chr(code) if code <= 0x10FFFF else _LOST

    def _begin(self, text: str) -> None:
        self._lacks = False
        self._write(self._between + text)
        self._between = ""

    def _nest(self, begin: str, end: str) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise MalformedError
        self._begin(begin)
        self._open.append(end)

    def _unnest(self) -> None:
        self._write(self._open.pop())

    def _member(self, schema: Any, key: str) -> Any:
        schema = self._resolved(schema)
        properties = schema.get("properties")
        if isinstance(properties, dict) and key in properties:
            return properties[key]
        return schema.get("additionalProperties")

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """Returns the schema that a `$ref` inside the arguments' schema leads to."""
        for _ in range(_MAX_REFERENCES):
            if not isinstance(schema, dict):
                return {}
            reference = schema.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#"):
                return schema
            schema = self._root
            for step in reference.split("/")[1:]:
                schema = schema.get(step) if isinstance(schema, dict) else None
        return {}

    def _types_of(self, schema: Any) -> frozenset[str]:
        """Returns the types that a schema admits; none if that is not known."""
        if not isinstance(schema, dict):
            return frozenset()
        if id(schema) not in self._types:
            self._types[id(schema)] = self._found_types(schema, _MAX_REFERENCES)
        return self._types[id(schema)]

    def _found_types(self, schema: Any, most: int) -> frozenset[str]:
        schema = self._resolved(schema)
        named = schema.get("type")
        if isinstance(named, str):
            return frozenset([named])
        if isinstance(named, list):
            return frozenset(name for name in named if isinstance(name, str))
        choices = schema.get("anyOf") or schema.get("oneOf")
        if not isinstance(choices, list) or most == 0:
            return frozenset()
        found = [self._found_types(choice, most - 1) for choice in choices]
        return frozenset().union(*found) if all(found) else frozenset()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _joined(high: str, low: str) -> str:
    return (high + low).encode("utf-16", "surrogatepass").decode("utf-16")


def _number(word: str) -> str | None:
    """Returns a word as a number of JSON, null if it is not finite; None if it is no number."""
    if not (word[:1].isdigit() or word[:1] in "+-." or word in ("NaN", "Infinity", "nan", "inf")):
        return None
    try:
        finite = math.isfinite(float(word))
    except ValueError:
        try:
            return str(int(word, 0))
        except ValueError:
            return None
    if not finite:
        return "null"
    if _NUMBER.match(word):
        return word
    return repr(float(word)) if set(word) & set(".eE") else str(int(word))


def _fitted(number: str, types: frozenset[str]) -> str:
    """Returns a number as the integer that it is, where only integers are wanted."""
    if "integer" not in types or "number" in types or not set(number) & set(".eE"):
        return number
    value = float(number) if _NUMBER.match(number) else math.nan
    return str(int(value)) if value.is_integer() else number


def _fits(value: str, types: frozenset[str]) -> bool:
    """Whether JSON is of one of these types, by its first character."""
    kinds = {"{": ("object",), "[": ("array",), "t": ("boolean",), "f": ("boolean",),
             "n": ("null",), '"': ()}  # fmt: skip
    return not types.isdisjoint(kinds.get(value[:1], ("number", "integer")))
