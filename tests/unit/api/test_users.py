"""Which user a body names, whatever else is in it."""

from __future__ import annotations

import json

import pytest

from sheily_server.api.users import user_of


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({"user": "anna"}, "anna"),
        ({"safety_identifier": "anna", "user": "ben"}, "anna"),
        ({"safety_identifier": None, "user": "ben"}, "ben"),
        ({"metadata": {"user_id": "carla", "more": [1]}}, "carla"),
        ({"metadata": {"topic": "x"}, "user": ""}, ""),
        ({"messages": [{"role": "user", "user": "inside"}]}, ""),
        ({"user": 5}, ""),
        ({"user": ["anna"], "metadata": {"user_id": 7}}, ""),
        ({"user": "anna", "metadata": "no object"}, ""),
        ([1, 2], ""),
    ],
)
def test_the_user_of_a_body(fields: object, user: str) -> None:
    assert user_of(json.dumps(fields).encode()) == user


@pytest.mark.parametrize(
    "body",
    [b"", b"no JSON", b'{"user": "an', b'{"user": "\xff"}', b'{"x": ' + b"[" * 100_000],
)
def test_what_cannot_be_read_names_nobody(body: bytes) -> None:
    assert user_of(body) == ""
