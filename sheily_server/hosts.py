"""Names and addresses of machines, as in settings and Host headers."""

from __future__ import annotations

import ipaddress
import re

_NAME = re.compile(r"[\w.-]+", re.A)


def is_loopback(host: str) -> bool:
    """Whether a name or address certainly belongs to this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_host(text: str) -> bool:
    """Whether this can be the name or address in a Host header, without a port."""
    return is_address(_bare(text)) or _NAME.fullmatch(text) is not None


def normal(name: str) -> str:
    """Normalizes a name or address to its one spelling."""
    try:
        return str(ipaddress.ip_address(_bare(name)))
    except ValueError:
        return name.lower().removesuffix(".")


def _bare(host: str) -> str:
    """Removes the brackets that an IPv6 address may have."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_everywhere(host: str) -> bool:
    """Whether a server that listens there listens on all addresses of its machine."""
    return host == "*" or (is_address(host) and ipaddress.ip_address(host).is_unspecified)
