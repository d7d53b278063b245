"""What is said of a body that its struct does not take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from sheily_server.api.wording import fault


class Text(Struct, tag_field="type", tag="text"):
    text: Annotated[str, Meta(min_length=2, max_length=3, pattern="^a")]
    tone: Literal["low", "high"] = "low"


class Number(Struct, tag_field="type", tag="number"):
    number: int
    tone: Literal["odd", "even"] = "odd"


class Body(Struct):
    parts: list[Text | Number] = []
    mode: Literal["auto", "off", 3] | None = None
    only: Literal["function"] = "function"
    bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] = {}
    ids: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(min_length=1, max_length=2)] = []
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    name: str | list[str] | None = None
    whole: int | None = None
    on: bool = True
    most: Annotated[dict[str, int], Meta(max_length=1)] = {}
    even: Annotated[int, Meta(multiple_of=2)] = 2


@pytest.mark.parametrize(
    ("body", "sentence", "param", "code"),
    [
        (3, "The body must be an object, not a number.", None, "invalid_type"),
        ({"parts": 1}, "parts must be a list, not a number.", "parts", "invalid_type"),
        (
            {"parts": [{"type": "image"}]},
            "parts[0].type is 'image', not one of text, number.",
            "parts[0].type",
            "invalid_value",
        ),
        (
            {"parts": [{"type": "text", "text": "ab", "tone": "odd"}]},
            "parts[0].tone is 'odd', not one of high, low.",
            "parts[0].tone",
            "invalid_value",
        ),
        (
            {"parts": [{"type": "text", "text": "ab"}, {"type": "number"}]},
            "parts[1].number is missing.",
            "parts[1].number",
            "missing_required_parameter",
        ),
        ({"parts": [{}]}, "parts[0].type is missing.", "parts[0].type", None),
        (
            {"parts": [{"type": "text", "text": "a"}]},
            "parts[0].text must have at least 2 characters.",
            "parts[0].text",
            None,
        ),
        (
            {"parts": [{"type": "text", "text": "ba"}]},
            "parts[0].text must match the expression '^a'.",
            "parts[0].text",
            None,
        ),
        ({"mode": "on"}, "mode is 'on', not one of 3, auto, off.", "mode", "invalid_value"),
        ({"mode": 4}, "mode is 4, not one of 3, auto, off.", "mode", "invalid_value"),
        ({"only": "tool"}, "only is 'tool'; it can only be function.", "only", "invalid_value"),
        ({"bias": {"1": 101}}, "bias[...] must be at most 100.", "bias[...]", None),
        ({"bias": {"1": "x"}}, "bias[...] must be a number, not a string.", "bias[...]", None),
        ({"ids": []}, "ids must have at least 1 item.", "ids", None),
        ({"ids": [1, 2, 3]}, "ids must have at most 2 items.", "ids", None),
        ({"ids": [1, -1]}, "ids[1] must be at least 0.", "ids[1]", None),
        ({"share": 0}, "share must be more than 0.", "share", None),
        ({"share": 1}, "share must be less than 1.", "share", None),
        ({"name": 1}, "name must be a string, a list or null, not a number.", "name", None),
        (
            {"whole": 1.5},
            "whole must be a whole number or null, not a number with a fraction.",
            "whole",
            "invalid_type",
        ),
        ({"on": 1}, "on must be true or false, not a number.", "on", None),
        ({"share": True}, "share must be a number, not a boolean.", "share", None),
        ({"most": {"a": 1, "b": 2}}, "most must have at most 1 entry.", "most", None),
    ],
)
def test_sentences(body: Any, sentence: str, param: str | None, code: str | None) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(body, Body)
    found = fault(caught.value, Body, body)
    assert (found.sentence, found.param) == (sentence, param)
    assert found.code == code or code is None
    for word in ("`", "$", "Expected", "Invalid", "enum"):
        assert word not in found.sentence


def test_a_sentence_that_is_not_known_is_passed_on() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"even": 3}, Body)
    found = fault(caught.value, Body, {"even": 3})
    assert found.sentence.startswith("even cannot be used: Expected `int`")
    assert (found.param, found.code) == ("even", "invalid_value")


def test_a_long_value_is_not_repeated_in_full() -> None:
    body = {"mode": "x" * 10_000}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(body, Body)
    found = fault(caught.value, Body, body)
    assert len(found.sentence) < 200
    assert found.sentence.endswith("…, not one of 3, auto, off.")
