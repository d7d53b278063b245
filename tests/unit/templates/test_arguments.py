"""Arguments that were cut off, and what is no JSON at all. test_calls.py has the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.templates.arguments import MAX_DEPTH, completed

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
    assert isinstance(json.loads(whole), dict)


def test_what_was_there_is_kept() -> None:
    assert completed('{"city": "A Cor') == '{"city": "A Cor"}'
    assert completed('{"a": [1, {"b": tr') == '{"a": [1, {"b": null}]}'
    assert completed('{"a": 1, "b') == '{"a": 1}'


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "}", "{]", '{"a" 1', "[1, %", '{"a":' * MAX_DEPTH * 2]
)
def test_what_was_not_cut_off(text: str) -> None:
    assert completed(text) is None
