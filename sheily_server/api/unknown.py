"""Finds the fields of a body that its struct has no place for; knows types, and no dialect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct, inspect

MOST_NAMED = 32
"""Kinds of unknown fields that are named: a body may have a million of them."""
MOST_CHARACTERS = 64
"""Characters that are kept of a name."""


@dataclass(slots=True)
class _Shape:
    """What is known of a value: the fields of objects by their tag, and the shape of the items of a
    list. In a union msgspec allows one list, and several structs only if one field tells them
    apart."""

    tag_field: str | None = None
    objects: dict[Any, dict[str, _Shape | None]] = field(default_factory=dict)
    item: _Shape | None = None

    def fields_of(self, value: dict[str, Any]) -> dict[str, _Shape | None]:
        """Returns the fields of an object that has been converted. A struct that is alone in its
        place needs no tag."""
        if len(self.objects) == 1:
            return next(iter(self.objects.values()))
        return self.objects[value[self.tag_field or ""]]


class KnownFields:
    """The fields of a struct, and of the structs in its fields, at any depth."""

    def __init__(self, struct: type[Struct]) -> None:
        shape = _shape(inspect.type_info(struct), {})
        assert shape is not None
        self._shape = shape

    def unknown(self, raw: dict[str, Any]) -> dict[str, str]:
        """Returns the fields that are not among them: the kind of each, such as `messages[].x`, and
        the place of the first of its kind, such as `messages[2].x`. They are at most MOST_NAMED.

        `raw` is what msgspec has converted to the struct, which bounds its lists.
        """
        found: dict[str, str] = {}
        _look(raw, self._shape, [], found)
        return found


def _shape(kind: inspect.Type, made: dict[type, dict[str, _Shape | None]]) -> _Shape | None:
    """Returns the shape of a type; None if there is no struct in it. `made` has the fields of the
    structs that were met before."""
    shape = _Shape()
    for member in members(kind):
        if isinstance(member, inspect.ListType):
            shape.item = _shape(member.item_type, made)
        elif isinstance(member, inspect.StructType):
            if member.cls not in made:
                fields = made[member.cls] = {}
                for each in member.fields:
                    fields[each.encode_name] = _shape(each.type, made)
            shape.tag_field = member.tag_field
            shape.objects[member.tag] = made[member.cls]
    return shape if shape.objects or shape.item else None


def members(kind: inspect.Type) -> Iterator[inspect.Type]:
    """Yields the types of a union, or the type itself."""
    if isinstance(kind, inspect.Metadata):
        yield from members(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from members(each)
    else:
        yield kind


def _look(value: Any, shape: _Shape, path: list[str | int], found: dict[str, str]) -> None:
    """Adds what is unknown in a value. `path` leads to the value, and is the same afterwards."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            _look_at(item, shape.item, i, path, found)
    elif isinstance(value, dict) and shape.objects:
        fields = shape.fields_of(value)
        for name, child in value.items():
            if name in fields:
                _look_at(child, fields[name], name, path, found)
            elif name != shape.tag_field and len(found) < MOST_NAMED:
                path.append(name[:MOST_CHARACTERS])
                kind = _written(path, indexes=False)
                if kind not in found:
                    found[kind] = _written(path, indexes=True)
                path.pop()


def _look_at(
    value: Any, shape: _Shape | None, step: str | int, path: list[str | int], found: dict[str, str]
) -> None:
    if shape is not None and isinstance(value, dict | list) and len(found) < MOST_NAMED:
        path.append(step)
        _look(value, shape, path, found)
        path.pop()


def _written(path: list[str | int], *, indexes: bool) -> str:
    text = ""
    for i, step in enumerate(path):
        if isinstance(step, int):
            text += f"[{step}]" if indexes else "[]"
        else:
            text += f".{step}" if i else step
    return text
