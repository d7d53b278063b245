"""Checks who may call and how: accepted host names, API keys and types of bodies.

Knows the values of a request's headers, but not how they arrive or what is requested.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import NamedTuple

from ..hosts import (
    HostPort,
    is_address,
    is_everywhere,
    is_loopback,
    normal,
    own_names,
    parse_allowed,
    parse_host,
)
from .errors import HttpError

_USUAL_PORT = 80
"""The port of a Host header that names none."""
_CHARSET = re.compile(r'\s*charset\s*=\s*"?([^"\s]*)"?\s*', re.I)


class GivenKeys(NamedTuple):
    """The headers of a request that may have its key. Where `api_key`, x-api-key, has one, it alone
    decides: two headers are not two guesses. Clients send it empty to say that they use the other.
    """

    authorization: str | None = None
    api_key: str | None = None

    @property
    def key(self) -> bytes | None:
        """The key; None without one."""
        if self.api_key and self.api_key.strip(" "):
            return _encoded(self.api_key)
        scheme, _, key = (self.authorization or "").partition(" ")
        return _encoded(key) if scheme.lower() == "bearer" else None


class Guard:
    """Decides who may call.

    With DNS rebinding, a browser loads a page from a foreign name that then resolves to this
    machine. The page shares its origin with this server, so CORS does not stop it, but its requests
    carry the foreign name in `Host`. The name must therefore be a loopback one, the configured
    `host`, or in `allowed_hosts`, where `*` allows all and a port holds for itself alone. A server
    that others can reach also has its machine's own names, which no foreign page has. Addresses
    cannot be rebound: a server that listens on all addresses accepts every address. `open_paths`
    need no key.
    """

    def __init__(
        self,
        host: str,
        allowed_hosts: Iterable[str],
        keys: Iterable[str],
        open_paths: Iterable[str] = (),
    ) -> None:
        allowed = [found for each in allowed_hosts if (found := parse_allowed(each)) is not None]
        self._every_host = "*" in allowed_hosts
        self._hosts = {HostPort(normal(host), None), *allowed}
        if not is_loopback(host):
            self._hosts |= {HostPort(name, None) for name in own_names()}
        self._every_address = is_everywhere(host)
        self._keys = [key.encode() for key in keys]
        self._open_paths = frozenset(open_paths)

    def check(self, method: str, path: str, host: str | None, keys: GivenKeys) -> None:
        """Raises HttpError: 403 for the host name, 401 for the key."""
        if not self._every_host and not self._answers_to(host or ""):
            named = f"the name {host[:100]!r}" if host else "a request without a Host header"
            raise HttpError(
                403,
                f"This server does not answer to {named}; LLM_ALLOWED_HOSTS says which it does.",
                "host_not_allowed",
            )
        # Browsers send no key with a CORS preflight request.
        is_open = (path.rstrip("/") or "/") in self._open_paths
        needs_key = bool(self._keys) and method != "OPTIONS" and not is_open
        if needs_key and not self._has(keys.key):
            problem = "The API key is not one of this server's."
            if not (keys.authorization or keys.api_key):
                problem = (
                    "Send an API key in the header Authorization: Bearer KEY, or x-api-key: KEY."
                )
            raise HttpError(401, problem, "invalid_api_key")

    def scope(self, keys: GivenKeys) -> str:
        """Returns an id for whoever has this key; empty without keys.

        It is the same after a restart, so a guess of the key can be compared with it. The store
        keeps a hash of it with a salt (`store/base.py`); no other disk or log gets it.
        """
        if not self._keys:
            return ""
        given = keys.key or b""
        return hashlib.blake2b(given, digest_size=16, person=b"caller's scope").hexdigest()

    def _answers_to(self, header: str) -> bool:
        found = parse_host(header)
        if found is None:
            return False
        name = found.name
        ports = (None, _USUAL_PORT if found.port is None else found.port)
        return (
            any(HostPort(name, port) in self._hosts for port in ports)
            or is_loopback(name)
            or (self._every_address and is_address(name))
        )

    def _has(self, given: bytes | None) -> bool:
        """Whether a key is valid. Takes the same time for every key."""
        same = [hmac.compare_digest(given or b"", own) for own in self._keys]
        return given is not None and any(same)


def _encoded(key: str) -> bytes:
    return key.strip(" ").encode("utf-8", "surrogatepass")


def check_body_type(content_type: str | None, content_encoding: str | None) -> None:
    """Raises HttpError (415) for a body that is not plain JSON in UTF-8.

    Browser pages may send other types, as forms do, to any server without a preflight request.
    """
    kind, *parameters = (content_type or "").split(";")
    charsets = [found[1] for part in parameters if (found := _CHARSET.fullmatch(part))]
    others = [charset for charset in charsets if charset.lower() not in ("utf-8", "utf8")]
    if kind.strip().lower() != "application/json":
        problem = "The body must be JSON, with the header Content-Type: application/json."
    elif others:
        problem = f"The body must be in UTF-8, not in {others[0][:40]!r}."
    elif (content_encoding or "identity").strip().lower() != "identity":
        problem = "The body must not be compressed: Content-Encoding is not supported."
    else:
        return
    raise HttpError(415, problem, "unsupported_media_type")
