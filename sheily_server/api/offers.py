"""What a request offers the model to call, and chooses of it. Checked alike in every dialect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..chat.grammar import check_schema
from ..errors import InvalidRequestError
from ..templates.base import Function, Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which functions an answer may call, and how often.

    `place` is what the request calls the choice. `names` are those of the functions, None for all;
    `names_at` is where the request has each, with its number in the place of {}. `forced`: the
    answer must be a call. `several`: it may be more than one. `hides`: the functions stay out of
    the prompt.
    """

    place: str = "tool_choice"
    names: Sequence[str] | None = None
    names_at: str = "tool_choice.name"
    forced: bool = False
    several: bool = False
    hides: bool = False


def offered(functions: Sequence[Function], choice: Choice, names_at: str) -> Offer:
    """Returns what a request offers. `names_at` is where it has the name of each function, with its
    number in the place of {}.

    Raises InvalidRequestError when two functions have one name, when it chooses one that it does
    not offer, when calls must follow a schema that is not an object's, or when a strict one is too
    large.
    """
    seen: set[str] = set()
    for i, function in enumerate(functions):
        if function.name in seen:
            raise InvalidRequestError(
                f"Two tools have the name {function.name!r}.", names_at.format(i)
            )
        seen.add(function.name)
    found = _chosen(functions, choice, seen)
    for function in found.functions if found.binding else ():
        _check_parameters(function)
    return found


def _chosen(functions: Sequence[Function], choice: Choice, known: set[str]) -> Offer:
    if choice.hides:
        return Offer()
    if not functions and (choice.forced or choice.names is not None):
        raise InvalidRequestError(f"{choice.place} needs tools to choose from.", choice.place)
    for i, name in enumerate(choice.names or ()):
        if name not in known:
            raise InvalidRequestError(
                f"There is no tool with the name {name!r}.", choice.names_at.format(i)
            )
    wanted = known if choice.names is None else set(choice.names)
    chosen = tuple(function for function in functions if function.name in wanted)
    return Offer(chosen, forced=choice.forced, several=choice.several)


def _check_parameters(function: Function) -> None:
    schema = function.schema()
    if schema["type"] != "object":
        raise InvalidRequestError(
            "The schema of parameters must have the type object.", function.place
        )
    if function.strict:
        check_schema(schema, function.place)
