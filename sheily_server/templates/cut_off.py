"""Completes JSON that was cut off, such as the arguments of a call that had no room. Callers may
send it back by the megabyte: it is read from sign to sign, not from character to character."""

from __future__ import annotations

import re

import msgspec

from .arguments import MAX_DEPTH

_OUTSIDE = re.compile(r'"[^"\\]*"|["{}\[\],:\\]')
_INSIDE = re.compile(r'"|\\(?:u[0-9a-fA-F]{0,4}|.)?', re.DOTALL)
_WORD = re.compile(r"[\w.+-]*")
_PART_OF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_HIGH = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_CLOSES = {"{": "}", "[": "]"}
_BLANK = " \t\r\n"


def completed(text: str) -> str | None:
    """Returns the beginning of a JSON object or list as a whole one; None for what is seen to be
    no such beginning. What is before the cut is not checked."""
    closing: list[str] = []
    kept = 0
    """Where the last value before the cut ends, or the bracket before it."""
    colon = begin = -1
    """Behind the colon of the member that is cut off, and where the string is that is cut off."""
    at = 0
    while (found := _OUTSIDE.search(text, at)) is not None:
        sign, at = found[0], found.end()
        if sign == '"':
            begin = found.start()
            end = _end_of_string(text, at)
            if end < 0:
                break
            begin, at = -1, end
        elif sign in "{[":
            closing.append(_CLOSES[sign])
            if len(closing) > MAX_DEPTH:
                return None
            kept, colon = at, -1
        elif sign in "}]":
            if not closing or closing.pop() != sign:
                return None
            kept, colon = at, -1
        elif sign == ",":
            kept, colon = found.start(), -1
        elif sign == ":":
            colon = at
        elif sign == "\\":
            return None
    if not closing:
        return None
    rest = _completed_member(text, kept, colon, begin, in_object=closing[-1] == "}")
    return None if rest is None else rest + "".join(reversed(closing))


def _completed_member(
    text: str, kept: int, colon: int, begin: int, *, in_object: bool
) -> str | None:
    """Returns a text without its last member if that has no value yet; None if it is none."""
    place = colon if in_object and colon >= 0 else kept
    before = text[place : begin if begin >= 0 else len(text)].lstrip(_BLANK + ",").rstrip(_BLANK)
    if begin >= 0 and before:
        return None
    if in_object and colon < 0:  # a key, or a part of it
        return text[:kept] if not before or before[0] + before[-1] == '""' else None
    if begin >= 0:
        return f'{text[: _end_of_whole(text, begin + 1)]}"'
    if _is_json(before):
        return text
    if _WORD.fullmatch(before) is None:
        return None
    number = before.rstrip(".eE+-")
    if number != before and _is_json(number):
        return text.rstrip(_BLANK).rstrip(".eE+-")
    return f"{text[:colon]} null" if in_object else text[:kept]


def _end_of_string(text: str, begin: int) -> int:
    """Returns where a string is at its end, behind the quote; -1 if the text ends before."""
    for found in _INSIDE.finditer(text, begin):
        if found[0] == '"':
            return found.end()
    return -1


def _end_of_whole(text: str, begin: int) -> int:
    """Returns where the last whole character is at its end, in a string that has no end."""
    before = last = -1
    for found in _INSIDE.finditer(text, begin):
        before, last = last, found.start()
    end = len(text)
    if last >= 0 and _PART_OF_ESCAPE.fullmatch(text, last):
        end, last = last, before
    if last >= 0 and _HIGH.fullmatch(text, last, end):
        end = last
    return end


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
