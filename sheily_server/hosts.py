"""Names and addresses of machines, as in settings and Host headers."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import NamedTuple

_NAME = re.compile(r"[\w.-]+", re.A)
_HOST = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::(?P<port>\d{1,5}))?", re.A
)
_MOST_PORT = 65_535


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class HostPort(NamedTuple):
    """A name or address in its one spelling, and the port behind it; None without one."""

    name: str
    port: int | None


def parse_host(text: str) -> HostPort | None:
    """Parses a Host header: `name`, `[address]`, either with `:port`. Returns None for others."""
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    port = None if found["port"] is None else int(found["port"])
    return HostPort(normal(found["address"] or found["name"]), port)


def parse_allowed(text: str) -> HostPort | None:
    """Parses a host of a setting: as in a Host header, or an IPv6 address without brackets. Returns
    None for what no request can have."""
    if is_address(text):
        return HostPort(normal(text), None)
    found = parse_host(text)
    if found is None or (text.startswith("[") and not is_address(found.name)):
        return None
    return found if found.port is None or 0 < found.port <= _MOST_PORT else None


def own_names() -> tuple[str, ...]:
    """Returns the names that this machine has for itself, and its name in mDNS. Looks nothing up:
    what DNS says of an address is not this machine's."""
    name = normal(socket.gethostname())
    first = name.partition(".")[0]
    if not (_NAME.fullmatch(name) and first) or is_address(name) or is_loopback(name):
        return ()
    return tuple(dict.fromkeys((name, first, f"{first}.local")))


def is_loopback(host: str) -> bool:
    """Whether a name or address certainly belongs to this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def parse_address(text: str) -> Address | None:
    """Parses an address as proxies write it: bare, or with a port, in brackets with one if it is an
    IPv6 address. An IPv4 address in IPv6's form is the IPv4 one. Returns None for others."""
    found = parse_host(text)
    try:
        address = ipaddress.ip_address(text if found is None else found.name)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_network(text: str) -> Network | None:
    """Parses an address, or a network such as 10.0.0.0/8. Returns None for others."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def is_everywhere(host: str) -> bool:
    """Whether a server that listens there listens on all addresses of its machine."""
    return host == "*" or (is_address(host) and ipaddress.ip_address(host).is_unspecified)
