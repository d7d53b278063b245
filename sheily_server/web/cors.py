"""Decides which browser pages may call this server. Knows only origins and header names."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

ALLOWED_METHODS = "GET, POST, DELETE, OPTIONS"
# The star covers what the official clients add, such as x-api-key and anthropic-version, but never
# Authorization.
ALLOWED_HEADERS = "Authorization, Content-Type, *"
EXPOSED_HEADERS = "X-Request-Id, Request-Id, Retry-After, Idempotent-Replayed"


def allowed_origin(origin: str | None, configured: Sequence[str]) -> str | None:
    """Returns the value of Access-Control-Allow-Origin, or None for no such header.

    With nothing configured, allows pages on loopback names, on any port.
    """
    if not origin:
        return None
    if "*" in configured:
        return "*"
    if configured:
        return origin if origin in configured else None
    return origin if _is_loopback(origin) else None


def headers(origin: str | None, configured: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the CORS headers of a response to a request with this Origin header."""
    vary = [] if "*" in configured else [("Vary", "Origin")]
    allowed = allowed_origin(origin, configured)
    if allowed is None:
        return vary
    return [
        *vary,
        ("Access-Control-Allow-Origin", allowed),
        ("Access-Control-Expose-Headers", EXPOSED_HEADERS),
    ]


def preflight_headers() -> list[tuple[str, str]]:
    """Returns the headers of an OPTIONS response besides those of `headers`."""
    return [
        ("Access-Control-Allow-Methods", ALLOWED_METHODS),
        ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
        ("Access-Control-Max-Age", "600"),
    ]


def _is_loopback(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or parts.username is not None:
            return False
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
