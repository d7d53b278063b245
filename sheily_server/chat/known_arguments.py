"""Tells which of a request's arguments for the template have no effect. Pure."""

from __future__ import annotations

from ..errors import InvalidRequestError
from ..templates.base import Template, argument_place
from .generation import Generation

MOST_NAMED = 32
"""Arguments that are named."""


def unknown_arguments(template: Template, asked: Generation, *, strict: bool) -> list[str]:
    """Returns the places of the first arguments without effect: those that the template does not
    have, and all where the request has prompts. Raises InvalidRequestError for one if all is read
    strictly."""
    known = frozenset() if asked.prompts else template.arguments
    given = [name for name, value in asked.template_arguments.items() if value is not None]
    unknown = [argument_place(name) for name in given if name not in known]
    if unknown and strict:
        message = f"The model's template has no argument {unknown[0]!r}."
        raise InvalidRequestError(message, unknown[0], "unknown_parameter")
    return unknown[:MOST_NAMED]
