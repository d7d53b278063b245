"""Decodes request bodies to typed structs, and locates every fault. Knows JSON, but no dialect."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from ..errors import InvalidRequestError
from .unknown import KnownFields
from .wording import fault

Values = Mapping[str, tuple[Any, ...]]
"""Fields, each with its values that ask for nothing. null always asks for nothing."""

RequestT = TypeVar("RequestT", bound=Struct)

_MESSAGE = re.compile(r"messages\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Read(Generic[RequestT]):
    """A body. `ignored` names its fields that ask for something and have no effect; one that every
    item of a list has is named once, as in `messages[].x`."""

    request: RequestT
    ignored: tuple[str, ...] = ()


class Reader(Generic[RequestT]):
    """Decodes the bodies of one shape.

    The fields that the struct does not have are of three kinds. Those in `neutral` would change the
    answer: other values than the listed ones are refused. Those in `effectless` would not: other
    values are accepted and named; those may be of a field that the struct has, too. So are all
    fields that nobody knows. Strictly read, all of them are refused.

    Make it before threads start: msgspec 0.22 inspects a struct when it first decodes into it, and
    crashes if two threads are the first.
    """

    def __init__(
        self,
        shape: type[RequestT],
        neutral: Values,
        effectless: Values,
        check: Callable[[dict[str, Any]], None] = lambda raw: None,
    ) -> None:
        """`check` gets the JSON before it is converted, and raises InvalidRequestError."""
        msgspec.json.Decoder(shape)
        self._shape = shape
        self._neutral = neutral
        self._fields = frozenset(shape.__struct_fields__)
        others = {name: values for name, values in neutral.items() if name not in self._fields}
        self._without_effect = {**others, **effectless}
        self._check = check
        self._known = KnownFields(shape)

    def read(self, body: bytes, strict: bool = False) -> Read[RequestT]:
        """Decodes a body. Raises InvalidRequestError with the field in `param`."""
        raw = _object(body)
        ignored = self._take_out(raw, strict)
        self._check(raw)
        try:
            request = msgspec.convert(raw, self._shape)
        except msgspec.ValidationError as error:
            raise _refused(error, self._shape, raw) from None
        unknown = self._known.unknown(raw)
        if strict and unknown:
            place = next(iter(unknown.values()))
            raise InvalidRequestError(f"Unknown field {place!r}.", place, "unknown_parameter")
        return Read(request, (*ignored, *unknown))

    def _take_out(self, raw: dict[str, Any], strict: bool) -> list[str]:
        """Takes the fields of the two tables out, and returns those without effect that ask for
        something. Raises InvalidRequestError for what is refused."""
        ignored = []
        for name, values in self._without_effect.items():
            value = raw.get(name) if name in self._fields else raw.pop(name, None)
            if value is None or _is_one_of(value, values):
                continue
            if strict or name in self._neutral:
                raise InvalidRequestError(
                    f"{name!r} is not supported by this server.", name, "unsupported_parameter"
                )
            ignored.append(name)
        return ignored


class QueryReader(Generic[RequestT]):
    """Decodes the fields behind a path to a struct whose fields are numbers, words and switches.
    Make it before threads start, as a Reader."""

    def __init__(self, shape: type[RequestT]) -> None:
        msgspec.json.Decoder(shape)
        self._shape = shape

    def read(self, query: Mapping[str, str]) -> RequestT:
        """Raises InvalidRequestError with the field in `param`."""
        try:
            return msgspec.convert(dict(query), self._shape, strict=False)
        except msgspec.ValidationError as error:
            raise _refused(error, self._shape, dict(query)) from None


def of_message(param: str | None, places: Sequence[str]) -> str | None:
    """Returns where a body has what the core calls `messages[i]` or a part of it, by the `places`
    of all messages. Other places stay."""
    found = _MESSAGE.match(param or "")
    if found is None or int(found[1]) >= len(places):
        return param
    return places[int(found[1])]


def _object(body: bytes) -> dict[str, Any]:
    """Returns the JSON object that a body is. Raises InvalidRequestError."""
    try:
        raw = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidRequestError("The body is nested too deeply.", code="invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        param = _endless_number(body)
        where = f" (at {param})" if param else ""
        raise InvalidRequestError(
            f"The body is not JSON: {error}{where}.", param, code="invalid_json"
        ) from None
    if not isinstance(raw, dict):
        raise InvalidRequestError("The body must be a JSON object.", code="invalid_type")
    return raw


def _endless_number(body: bytes) -> str | None:
    """Returns the field of a body that has NaN, Infinity or 1e400, which Python's parser accepts;
    None if the body has another fault."""
    try:
        todo = [("", json.loads(body.decode()))]
    except (ValueError, RecursionError):
        return None
    while todo:
        name, value = todo.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return name or None
        if isinstance(value, dict):
            todo += [(f"{name}.{key}".lstrip("."), child) for key, child in value.items()]
        elif isinstance(value, list):
            todo += [(f"{name}[{i}]", child) for i, child in enumerate(value)]
    return None


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether a value equals one of these, in type too: Python takes True as equal to 1."""
    return any(type(value) is type(other) and value == other for other in values)


def _refused(error: msgspec.ValidationError, shape: type[Struct], raw: Any) -> InvalidRequestError:
    found = fault(error, shape, raw)
    return InvalidRequestError(found.sentence, found.param, found.code)
