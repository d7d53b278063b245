"""How deep JSON of a request may be that goes into a prompt."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidRequestError

MAX_NESTING = 100
"""Most levels: far fewer than Python's own encoder can write."""


def check_depth(value: Any, what: str, place: str) -> None:
    """Raises InvalidRequestError for JSON with more than MAX_NESTING levels of objects and lists.
    `what` begins the sentence, as in "The schema is"."""
    level = [value]
    for _ in range(MAX_NESTING):
        children = [each.values() if isinstance(each, dict) else each for each in level]
        level = [child for each in children for child in each if isinstance(child, dict | list)]
        if not level:
            return
    raise InvalidRequestError(f"{what} nested deeper than {MAX_NESTING} levels.", place)


def check_schema_depth(schema: dict[str, Any] | None, place: str) -> None:
    """Raises InvalidRequestError for a schema that is nested too deeply."""
    check_depth(schema or {}, "The schema is", place)
