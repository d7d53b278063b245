"""Which origins may call: loopback pages by default, configured ones, or all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.web.cors import allowed_origin, headers, preflight_headers

LOOPBACK = [
    "http://localhost",
    "http://localhost:3000",
    "https://localhost:8443",
    "http://127.0.0.1:5173",
    "http://127.8.9.1",
    "http://[::1]:3000",
]
FOREIGN = [
    "http://example.org",
    "https://localhost.example.org",
    "http://127.0.0.1.example.org:3000",
    "http://192.168.1.5:3000",
    "http://10.0.0.1",
    "http://notlocalhost",
    "http://localhost@example.org",
    "http://example.org@localhost",
    "http://[::2]",
    "http://[::1",
    "file://localhost",
    "ftp://localhost",
    "localhost:3000",
    "null",
    "*",
    "http://",
    "http://2130706433",
]


@pytest.mark.parametrize("origin", LOOPBACK)
def test_pages_on_loopback_may_call_by_default(origin: str) -> None:
    assert allowed_origin(origin, ()) == origin


@pytest.mark.parametrize("origin", FOREIGN)
def test_other_pages_may_not(origin: str) -> None:
    assert allowed_origin(origin, ()) is None
    assert headers(origin, ()) == [("Vary", "Origin")]


def test_configured_origins_are_exact_and_take_the_place_of_the_default() -> None:
    configured = ("https://dash.example.org", "http://localhost:3000")
    assert allowed_origin("https://dash.example.org", configured) == "https://dash.example.org"
    assert allowed_origin("http://localhost:3000", configured) == "http://localhost:3000"
    for other in ("http://localhost:3001", "http://dash.example.org", "https://dash.example.org:1"):
        assert allowed_origin(other, configured) is None


def test_a_star_allows_every_page() -> None:
    for configured in (("*",), ("http://localhost:3000", "*")):
        assert allowed_origin("https://example.org", configured) == "*"
        assert ("Vary", "Origin") not in headers("https://example.org", configured)


@pytest.mark.parametrize("configured", [(), ("*",), ("http://localhost:3000",)])
def test_without_an_origin_nothing_is_allowed(configured: tuple[str, ...]) -> None:
    assert allowed_origin(None, configured) is None
    assert allowed_origin("", configured) is None
    assert "Access-Control-Allow-Origin" not in dict(headers(None, configured))


def test_the_headers_of_an_allowed_page() -> None:
    answer = dict(headers("http://localhost:3000", ()))
    assert answer["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert answer["Vary"] == "Origin"
    assert "X-Request-Id" in answer["Access-Control-Expose-Headers"]


def test_a_preflight_allows_what_the_endpoints_take() -> None:
    answer = dict(preflight_headers())
    assert answer["Access-Control-Allow-Methods"] == "GET, POST, DELETE, OPTIONS"
    allowed = answer["Access-Control-Allow-Headers"]
    # Authorization is never covered by the star; the official clients send headers of their own.
    assert {"Authorization", "Content-Type", "*"} <= set(allowed.split(", "))
    assert int(answer["Access-Control-Max-Age"]) > 0


@given(st.text())
def test_any_origin_is_judged(origin: str) -> None:
    assert allowed_origin(origin, ()) in (None, origin)
