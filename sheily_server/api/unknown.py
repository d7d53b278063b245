"""Finds the fields of a body that its struct has no place for; knows types, and no dialect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, inspect

MOST_NAMED = 32
"""Unknown fields that are named: a body may have a million of them."""
MOST_CHARACTERS = 64
"""Characters that are kept of a name."""


class KnownFields:
    """The fields of a struct, and of the structs in its fields, at any depth."""

    def __init__(self, struct: type[Struct]) -> None:
        self._root = inspect.type_info(struct)
        self._fields: dict[type, dict[str, inspect.Type]] = {}

    def unknown(self, raw: dict[str, Any]) -> list[str]:
        """Returns the places of fields that are not among them, such as `messages[0].x`, at most
        MOST_NAMED."""
        return list(itertools.islice(self._unknown(raw, self._root, ""), MOST_NAMED))

    def _unknown(self, value: Any, shape: inspect.Type, place: str) -> Iterator[str]:
        if isinstance(shape, inspect.UnionType):
            for each in shape.types:
                if _fits(value, each):
                    yield from self._unknown(value, each, place)
                    return
        elif isinstance(shape, inspect.Metadata):
            yield from self._unknown(value, shape.type, place)
        elif isinstance(shape, inspect.ListType) and isinstance(value, list):
            for i, item in enumerate(value):
                yield from self._unknown(item, shape.item_type, f"{place}[{i}]")
        elif isinstance(shape, inspect.StructType) and isinstance(value, dict):
            fields = self._fields_of(shape)
            for name, child in value.items():
                if name in fields:
                    if isinstance(child, dict | list):
                        yield from self._unknown(child, fields[name], f"{place}.{name}".lstrip("."))
                elif name != shape.tag_field:
                    yield f"{place}.{name[:MOST_CHARACTERS]}".lstrip(".")

    def _fields_of(self, shape: inspect.StructType) -> dict[str, inspect.Type]:
        if shape.cls not in self._fields:
            self._fields[shape.cls] = {each.encode_name: each.type for each in shape.fields}
        return self._fields[shape.cls]


def _fits(value: Any, shape: inspect.Type) -> bool:
    """Whether a value is of this member of a union, as far as its fields can be looked at."""
    if isinstance(shape, inspect.Metadata):
        return _fits(value, shape.type)
    if isinstance(shape, inspect.StructType):
        return isinstance(value, dict) and (
            shape.tag_field is None or value.get(shape.tag_field) == shape.tag
        )
    return isinstance(shape, inspect.ListType) and isinstance(value, list)
