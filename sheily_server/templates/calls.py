"""Finds the function calls in an answer while it arrives, in the forms that models write. Knows no
family of models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from .arguments import Arguments, MalformedError, UnfinishedError
from .base import CallPart, Offer
from .source import Source, Wait

_TEXT = re.compile(r"[^\s{\[<`]+(?:\s+[^\s{\[<`]+)*")
_BLANKS = re.compile(r"\s+")
_WORD = re.compile(r"\w+")
_LETTERS = re.compile(r"[A-Za-z_]+")
_AFTER_CALLS = "}]);,`"
"""What separates and closes calls besides blanks: brackets, also one too many, and fences."""
_MAX_FENCE = 3
_NAMES = ("name", "function")
_ARGUMENTS = ("parameters", "arguments")
_KEYS = (*_NAMES, *_ARGUMENTS, "type", "id")
_NULLS = ("null", "None")
_KINDS = ("function", "function_call", "tool_call")


class _NoCallError(Exception):
    """Raised where what looked like a call is none."""


class CallReader:
    """Separates the text of one answer from its calls of offered functions.

    A call is an object with the name of a function and its arguments, in the words of several
    dialects, or a call in Python's syntax in a list or behind a tag. It may stand behind text, in a
    code fence or between `tags` and `ends`. What begins like a call is held back until it is known
    to be one, with its function's name and the beginning of its arguments, or cannot become one any
    more. From then on its arguments are passed on as they arrive. Marks around calls are dropped,
    and so are blanks before and after them.

    In an answer that is `bound` to a grammar of calls only the beginning can be a call: the grammar
    leaves other text free, or makes it JSON. Takes time linear in the length of the answer.
    """

    def __init__(
        self,
        offer: Offer,
        *,
        bound: bool = False,
        tags: Sequence[str] = (),
        ends: Sequence[str] = (),
    ) -> None:
        self._offer = offer
        self._functions = {function.name: function for function in offer.functions}
        self._tags = tags
        self._ends = ends
        self._anywhere = not bound
        self._begins = "{[<`" if self._anywhere else "{[<"
        self._source = Source()
        self._parts: list[str | CallPart] = []
        self._arguments: list[str] = []
        self._blanks: list[str] = []
        self._cut = False
        self._n_calls = 0
        self._said = False
        """Whether there was text other than blanks."""
        self._is_behind_call = False
        """Whether nothing but marks and blanks followed the last call."""
        self._in_python = False
        """Whether a call in Python's syntax may begin here."""
        self._name = ""
        """The name in what may become a call, as far as it is there."""
        self._is_named = False
        """Whether the name is whole."""
        self._parser = self._answer()
        next(self._parser)

    def feed(self, text: str) -> list[str | CallPart]:
        """Returns the texts and parts of calls that are certain now."""
        if self._said and not self._anywhere:
            return [self._held_blanks() + text]
        self._source.push(text)
        next(self._parser)
        return self._taken()

    def end(self, *, cut: bool) -> list[str | CallPart]:
        """Returns the rest. `cut`: the answer was cut off. Then its last call is left as it is, and
        what can only be a call is no text; otherwise a call that lacks its end is completed."""
        self._cut = cut
        self._source.end()
        for _ in self._parser:
            pass
        return self._taken()

    def _taken(self) -> list[str | CallPart]:
        self._flush()
        parts, self._parts = self._parts, []
        if self._offer.several:
            return parts
        return [part for part in parts if isinstance(part, str) or part.index == 0]

    # text, and where calls begin

    def _answer(self) -> Wait[None]:
        source = self._source
        while first := (yield from source.peek()):
            if first.isspace():
                self._blanks.append(source.run(_BLANKS))
            elif self._is_behind_call and first in _AFTER_CALLS:
                self._in_python = source.skip() != "]" and self._in_python
            elif self._said and not self._anywhere:
                self._say(source.run(_TEXT) or source.skip())
            elif first in self._begins or (self._in_python and _WORD.match(first)):
                yield from self._attempt()
            else:
                self._say(source.run(_TEXT) or source.skip())
        if not self._n_calls:
            self._parts.append(self._held_blanks())

    def _say(self, text: str) -> None:
        blanks = self._held_blanks()
        self._parts.append(text if self._n_calls and not self._said else blanks + text)
        self._said = True
        self._is_behind_call = self._in_python = False

    def _held_blanks(self) -> str:
        blanks, self._blanks = self._blanks, []
        return "".join(blanks)

    def _attempt(self) -> Wait[None]:
        """Reads a call, or as text what turns out to be none."""
        source = self._source
        source.keep()
        self._name, self._is_named = "", False
        try:
            yield from self._opening()
        except (_NoCallError, MalformedError, UnfinishedError) as error:
            text = source.kept()
            if not (isinstance(error, UnfinishedError) and self._is_cut_off_call(text)):
                self._say(text or source.skip())

    def _is_cut_off_call(self, text: str) -> bool:
        """Whether the answer ends with `text` in what can only be a call, which this takes if its
        function is known."""
        names = [name for name in self._functions if name.startswith(self._name)]
        if self._is_named:
            self._begin(self._name)
            self._finish("" if self._cut else "{}")
        elif not self._cut or not (self._name or self._offer.forced or self._has_tag(text)):
            return False
        elif len(names) == 1 and (self._name or not self._n_calls):
            self._begin(names[0])
            self._finish()
        return True

    def _has_tag(self, text: str) -> bool:
        return any(tag in text for tag in self._tags)

    # what is around a call

    def _opening(self) -> Wait[None]:
        """Reads a fence, a tag and the bracket of a list, and the call behind them."""
        source = self._source
        first = yield from self._first()
        if first == "`":
            yield from self._fence()
            first = yield from self._first()
        if first == "<":
            if (yield from self._tag()) in self._ends:
                source.kept()
                return
            first = yield from self._first()
        if first == "[":
            source.skip()
            self._in_python = True
            first = yield from self._first()
        if first == "{":
            yield from self._object()
        elif self._in_python:
            yield from self._python()
        else:
            raise _NoCallError

    def _fence(self) -> Wait[None]:
        for _ in range(_MAX_FENCE):
            if (yield from self._source.peek()) == "`":
                self._source.skip()
        yield from self._source.all(_LETTERS)

    def _tag(self) -> Wait[str]:
        """Reads a tag before calls, or one that ends them."""
        tags = (*self._tags, *(self._ends if self._is_behind_call else ()))
        text = ""
        while text not in tags:
            text += yield from self._source.peek()
            if not any(tag.startswith(text) for tag in tags):
                raise _NoCallError
            if (yield from self._source.peek()) == "":
                raise UnfinishedError
            self._source.skip()
        self._in_python = True
        return text

    def _first(self) -> Wait[str]:
        first = yield from self._source.first()
        if not first:
            raise UnfinishedError
        return first

    # the two forms of a call

    def _object(self, *, is_inner: bool = False) -> Wait[None]:
        """Reads an object with a name and arguments, in either order."""
        source = self._source
        source.skip()
        early: str | None = None
        while True:
            first = yield from self._first()
            if first == ",":
                source.skip()
                continue
            if first == "}":
                source.skip()
                if not self._is_named:
                    raise _NoCallError
                self._begin(self._name)
                self._finish("{}")
                return
            key = yield from self._one_of(_KEYS)
            if (yield from self._first()) != ":":
                raise _NoCallError
            source.skip()
            first = yield from self._first()
            if key == "function" and first == "{" and not is_inner:
                yield from self._object(is_inner=True)
                break
            if key in _NAMES and not self._is_named:
                yield from self._one_of(self._functions, is_name=True)
                if early is not None:
                    yield from self._call(Source(early, ended=True))
                    break
            elif key in _ARGUMENTS and self._is_named:
                yield from self._call(source)
                break
            elif key == "type":
                yield from self._one_of(_KINDS)
            else:
                value: list[str] = []
                yield from Arguments(source, value.append, {}).value()
                early = "".join(value) if key in _ARGUMENTS else early
        yield from self._behind_arguments()

    def _behind_arguments(self) -> Wait[None]:
        """Reads what else is in the object of a call, up to its end or to what is not in it."""
        source = self._source
        ignored = Arguments(source, lambda text: None, {})
        while (first := (yield from source.first())) in ("}", ","):
            source.skip()
            if first == "}" or (yield from source.first()) not in ("'", '"'):
                return
            try:
                yield from ignored.characters(lambda text: None)
                if (yield from source.first()) == ":":
                    source.skip()
                    yield from ignored.value()
            except (MalformedError, UnfinishedError):
                return

    def _one_of(self, options: Iterable[str], *, is_name: bool = False) -> Wait[str]:
        """Reads a string in quotes that is one of the options."""
        source = self._source
        quote = yield from source.peek()
        if quote not in ("'", '"'):
            raise _NoCallError
        source.skip()
        text = ""
        while True:
            first = yield from source.peek()
            if not first:
                raise UnfinishedError
            if first == quote and text in options:
                source.skip()
                self._is_named = self._is_named or is_name
                return text
            text += first
            if not any(option.startswith(text) for option in options):
                raise _NoCallError
            source.skip()
            if is_name:
                self._name = text

    def _python(self) -> Wait[None]:
        """Reads `f(a=1)` or `f.call(a=1)`."""
        source = self._source
        name = ""
        while (first := (yield from source.peek())) not in "(.":
            name += first
            if not any(each.startswith(name) for each in self._functions):
                raise _NoCallError
            source.skip()
        for letter in ".call(" if first == "." else "(":
            if name not in self._functions or (yield from source.peek()) != letter:
                raise _NoCallError
            source.skip()
        self._name, self._is_named = name, True
        if (yield from self._first()) == ")":
            source.skip()
            self._begin(name)
            self._finish("{}")
            return
        key = yield from source.all(_WORD)
        if not key or (yield from self._first()) != "=":
            raise _NoCallError
        source.skip()
        if (yield from self._first()) == "=":
            raise _NoCallError
        self._begin(name)
        arguments = self._arguments_of(source)
        yield from self._follow(arguments, arguments.members(")", "=", self._schema(), key))

    # arguments

    def _call(self, source: Source, *, in_string: bool = False) -> Wait[None]:
        """Reads arguments: an object, JSON in a string, or null."""
        first = yield from source.first()
        if first == "{":
            self._begin(self._name)
            arguments = self._arguments_of(source)
            yield from self._follow(arguments, arguments.value(self._schema()))
        elif first in ("'", '"') and not in_string:
            yield from self._call_in_string(source)
        elif (not first and in_string) or (yield from source.all(_WORD)) in _NULLS:
            self._begin(self._name)
            self._finish("{}")
        else:
            raise _NoCallError

    def _call_in_string(self, source: Source) -> Wait[None]:
        inner = Source()
        steps = self._call(inner, in_string=True)
        n_calls = self._n_calls

        def put(text: str) -> None:
            inner.push(text)
            next(steps, None)

        try:
            yield from Arguments(source, lambda text: None, {}).characters(put)
        except UnfinishedError:
            if self._n_calls == n_calls:
                raise
        inner.end()
        for _ in steps:
            pass

    def _arguments_of(self, source: Source) -> Arguments:
        return Arguments(source, self._arguments.append, self._schema())

    def _schema(self) -> dict[str, Any]:
        return self._functions[self._name].parameters or {}

    def _follow(self, arguments: Arguments, steps: Wait[None]) -> Wait[None]:
        """Passes on the arguments of a call that has begun. What is wrong with them ends it."""
        try:
            yield from steps
        except MalformedError:
            arguments.close()
        except UnfinishedError:
            if not self._cut:
                arguments.close()
        self._finish()

    def _begin(self, name: str) -> None:
        self._source.kept()
        self._name = name
        self._blanks = []
        self._parts.append(CallPart(self._n_calls, name=name))
        self._n_calls += 1

    def _finish(self, arguments: str = "") -> None:
        self._arguments.append(arguments)
        self._flush()
        self._parts.append(CallPart(self._n_calls - 1, ends=True))
        self._is_behind_call = True

    def _flush(self) -> None:
        text, self._arguments[:] = "".join(self._arguments), []
        if text:
            self._parts.append(CallPart(self._n_calls - 1, arguments=text))
