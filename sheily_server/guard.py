"""Who may call, and in which form: the names this server answers to, API keys, types of bodies.

Knows the values of a request's headers, and nothing of how they come or of what is asked for.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .errors import invalid_request

OPEN_PATHS = ("/health", "/livez")
"""What anyone may ask without a key: whether the server lives."""

_MOST_KEY_BYTES = 65_536
_KEY = re.compile(r"[!-~]+")
_HOST_HEADER = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{1,5})?", re.A
)
_NAME = re.compile(r"[\w.-]+", re.A)
_CHARSET = re.compile(r'\s*charset\s*=\s*"?([^"\s]*)"?\s*', re.I)


class Guard:
    """Decides who may call.

    A page that a browser loaded from a foreign name which then resolves to this machine (DNS
    rebinding) is of one origin with this server, so CORS does not stop it; but its requests carry
    that name in `Host`. So the name has to be this machine's, the configured `host`, or in
    `allowed_hosts`, where `*` allows all. An address cannot be rebound: a server that listens on
    all addresses answers to every one.
    """

    def __init__(self, host: str, allowed_hosts: Iterable[str], keys: Iterable[str]) -> None:
        self._every_host = "*" in allowed_hosts
        self._hosts = {_normal(name) for name in (host, *allowed_hosts)}
        self._every_address = _is_everywhere(host)
        self._keys = [key.encode() for key in keys]
        self._salt = secrets.token_bytes(16)

    def check(self, method: str, path: str, host: str | None, authorization: str | None) -> None:
        """Raises ApiError: 403 for the name, 401 for the key."""
        if not self._every_host and not self._answers_to(host or ""):
            named = f"the name {host[:100]!r}" if host else "a request without a Host header"
            raise invalid_request(
                f"This server does not answer to {named}; LLM_ALLOWED_HOSTS says which it does.",
                code="host_not_allowed",
                status=403,
            )
        # Browsers send no key with the question that CORS asks.
        needs_key = bool(self._keys) and method != "OPTIONS" and path.rstrip("/") not in OPEN_PATHS
        if needs_key and not self._has_key(authorization or ""):
            problem = "The API key is none of this server's."
            if not authorization:
                problem = "An API key is needed, in the header Authorization: Bearer KEY."
            raise invalid_request(problem, code="invalid_api_key", status=401)

    def scope(self, authorization: str | None) -> str:
        """A name for whoever has this key, which does not tell the key; empty without keys."""
        if not self._keys:
            return ""
        given = _bearer(authorization or "")[1]
        return hashlib.blake2b(given, digest_size=8, key=self._salt).hexdigest()

    def _answers_to(self, header: str) -> bool:
        found = _HOST_HEADER.fullmatch(header)
        if found is None:
            return False
        name = _normal(found["address"] or found["name"])
        return (
            name in self._hosts or is_loopback(name) or (self._every_address and _is_address(name))
        )

    def _has_key(self, authorization: str) -> bool:
        """Takes as long for one key as for another."""
        scheme, given = _bearer(authorization)
        same = [hmac.compare_digest(given, own) for own in self._keys]
        return scheme.lower() == "bearer" and any(same)


def _bearer(authorization: str) -> tuple[str, bytes]:
    """The scheme and the key of an Authorization header."""
    scheme, _, key = authorization.partition(" ")
    return scheme, key.strip(" ").encode("utf-8", "surrogatepass")


def check_body_type(content_type: str | None, content_encoding: str | None) -> None:
    """Raises ApiError (415) for a body that is not plain JSON in UTF-8.

    A page may send other types to any server without asking it first, as forms do.
    """
    kind, *parameters = (content_type or "").split(";")
    charsets = [found[1] for part in parameters if (found := _CHARSET.fullmatch(part))]
    others = [charset for charset in charsets if charset.lower() not in ("utf-8", "utf8")]
    if kind.strip().lower() != "application/json":
        problem = "The body must be JSON, with the header Content-Type: application/json."
    elif others:
        problem = f"The body must be in UTF-8, not in {others[0][:40]!r}."
    elif (content_encoding or "identity").strip().lower() != "identity":
        problem = "The body must be sent as it is: no Content-Encoding is taken."
    else:
        return
    raise invalid_request(problem, code="unsupported_media_type", status=415)


def is_loopback(host: str) -> bool:
    """Whether a name or address is certain to be this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_host(text: str) -> bool:
    """Whether this can be the name or address in a Host header, without a port."""
    return _is_address(_bare(text)) or _NAME.fullmatch(text) is not None


def _normal(name: str) -> str:
    """One spelling for each address, and for each name."""
    try:
        return str(ipaddress.ip_address(_bare(name)))
    except ValueError:
        return name.lower().removesuffix(".")


def _bare(host: str) -> str:
    """Without the brackets that an IPv6 address may have."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_everywhere(host: str) -> bool:
    """Whether a server that listens there has all addresses of its machine."""
    return host == "*" or (_is_address(host) and ipaddress.ip_address(host).is_unspecified)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The keys of a file, and whether every user of the machine may read it."""

    path: Path
    keys: tuple[str, ...] = field(repr=False)
    open_to_others: bool


def parse_keys(text: str) -> tuple[str, ...]:
    """Keys with commas between them. Raises ValueError, with the end of a sentence that has no key
    in it."""
    keys = tuple(part.strip() for part in text.split(",") if part.strip())
    if not keys:
        raise ValueError("is empty: it must be a key, or several with commas between them")
    if not all(_KEY.fullmatch(key) for key in keys):
        raise ValueError("has a key with other characters than printable ASCII without blanks")
    return keys


def read_keys(path: Path) -> KeyFile:
    """The keys of a file with one in each line, blank ones and `#` comments aside. Raises
    ValueError, with the end of a sentence that has no key in it."""
    named = f"is {str(path)!r}, which"
    try:
        if not path.is_file():
            raise ValueError(f"{named} is no file")
        with path.open("rb") as file:
            data = file.read(_MOST_KEY_BYTES + 1)
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{named} cannot be read ({error.strerror})") from None
    if len(data) > _MOST_KEY_BYTES:
        raise ValueError(f"{named} is larger than {_MOST_KEY_BYTES} bytes")
    keys = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        key = line.strip().decode("latin-1")
        if not key or key.startswith("#"):
            continue
        if not _KEY.fullmatch(key):
            raise ValueError(f"{named} has something else in line {number} than a key")
        keys.append(key)
    if not keys:
        raise ValueError(f"{named} has no key in it")
    return KeyFile(path, tuple(keys), bool(mode & 0o004))
