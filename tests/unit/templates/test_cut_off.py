"""Arguments that were cut off, and what is no JSON at all."""

from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.templates.arguments import MAX_DEPTH
from sheily_server.templates.cut_off import completed

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=3), values, max_size=3), st.data())
def test_json_that_was_cut_off_anywhere_is_completed(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    part = text[: data.draw(st.integers(1, len(text) - 1))]
    whole = completed(part)
    assert whole is not None
    found = json.loads(whole)
    assert list(found) == list(value)[: len(found)]
    assert all(found[key] == value[key] for key in list(found)[:-1])


def test_what_was_there_is_kept() -> None:
    assert completed('{"city": "A Cor') == '{"city": "A Cor"}'
    assert completed('{"a": [1, {"b": tr') == '{"a": [1, {"b": null}]}'
    assert completed('{"a": 1, "b') == '{"a": 1}'
    assert completed('{"a": 1.5e') == '{"a": 1.5}'


@pytest.mark.parametrize("end", ["\\", "\\u0", "\\ud83d", "\\ud83d\\", "\\ud83d\\ude0"])
def test_a_character_that_was_cut_off_is_left_out(end: str) -> None:
    assert completed(f'["x\\n{end}') == '["x\\n"]'
    assert completed(f'["x\\\\ud83d{end}') == '["x\\\\ud83d"]'


@pytest.mark.parametrize("part", ["1,", '"a", ', "\\u00e9", "a"])
def test_long_texts_are_not_read_by_characters(part: str) -> None:
    text = ("[" if "," in part else '["') + 10_000 * part
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        whole = completed(text)
    finally:
        sys.setprofile(before)
    assert whole is not None
    assert len(json.dumps(json.loads(whole))) >= 10_000
    assert calls < 100


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "}", "{]", '{"a" 1', "[1, %", '{"a":' * MAX_DEPTH * 2]
)
def test_what_was_not_cut_off(text: str) -> None:
    assert completed(text) is None
