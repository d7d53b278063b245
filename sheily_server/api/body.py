"""Decodes request bodies to typed structs, and locates every fault. Knows JSON, but no dialect."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ..errors import InvalidRequestError

Neutral = Mapping[str, tuple[Any, ...]]
"""Fields that a route does not act on, with the values that ask for nothing. Naming them is better
than "unknown", and clients that send such a value or null are not rejected."""

RequestT = TypeVar("RequestT", bound=Struct)

_FIELD_ERRORS = (
    ("Object missing required field `", "missing_required_parameter"),
    ("Object contains unknown field `", "unknown_parameter"),
)


def prepare(*shapes: type[Struct]) -> None:
    """Prepares structs for decoding. Call this once for each, before threads start: msgspec 0.22
    inspects a class when it first decodes into it, and crashes if two threads are the first."""
    for shape in shapes:
        msgspec.json.Decoder(shape)


def decode(body: bytes, shape: type[RequestT], neutral: Neutral) -> RequestT:
    """Decodes a request body. Raises InvalidRequestError with the field in `param`."""
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
    _refuse_unsupported(raw, shape, neutral)
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        raise _validation_error(error) from None


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


def _refuse_unsupported(raw: dict[str, Any], shape: type[Struct], neutral: Neutral) -> None:
    for name in list(raw):
        if name in shape.__struct_fields__:
            continue
        if name not in neutral:
            raise InvalidRequestError(
                f"Unknown field {name!r}.", param=name, code="unknown_parameter"
            )
        if raw[name] is not None and not _is_neutral(raw[name], neutral[name]):
            raise InvalidRequestError(
                f"{name!r} is not supported by this server.",
                param=name,
                code="unsupported_parameter",
            )
        del raw[name]


def _is_neutral(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether a value equals one of these, in type too: Python takes True as equal to 1."""
    return any(type(value) is type(other) and value == other for other in values)


def _validation_error(error: msgspec.ValidationError) -> InvalidRequestError:
    """Converts msgspec's error. Its sentence ends with " - at `$.path`", unless the path is the
    top. The path, followed by the missing or unknown field, is OpenAI's `param`."""
    sentence, at, path = str(error).rpartition(" - at `$")
    if not at:
        sentence, path = path, ""
    param = path.rstrip("`").lstrip(".")
    wrong_type = sentence.startswith("Expected ") and ", got `" in sentence
    code = "invalid_type" if wrong_type else "invalid_value"
    for words, field_code in _FIELD_ERRORS:
        if sentence.startswith(words):
            field = sentence.removeprefix(words).rstrip("`")
            param, code = f"{param}.{field}".lstrip("."), field_code
    where = f" (at {param})" if param else ""
    return InvalidRequestError(f"{sentence}{where}.", param=param or None, code=code)
