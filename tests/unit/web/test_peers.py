"""Whose address counts: that of the connection, unless a trusted proxy says another."""

from __future__ import annotations

import pytest

from sheily_server.config import load
from sheily_server.web.peers import Peers

PROXIES = load(["--trusted-proxies", "10.0.0.1, 192.168.0.0/16, fd00::/8,::1"], {}).trusted_proxies
PEERS = Peers(PROXIES)


@pytest.mark.parametrize(
    ("address", "forwarded", "name"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1,203.0.113.9 ,192.168.3.4", "203.0.113.9"),
        ("10.0.0.1", "192.168.3.4, 192.168.3.5", "192.168.3.4"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("fd00::1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, , ", "10.0.0.1"),
        ("::1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.2", "203.0.113.9", "10.0.0.2"),
        ("203.0.113.9", "10.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9", "loopback"),
        ("127.7.8.9", "", "loopback"),
        ("", "203.0.113.9", ""),
    ],
)
def test_who_calls(address: str, forwarded: str, name: str) -> None:
    assert PEERS.name(address, forwarded) == name


def test_without_trusted_proxies_only_the_connection_counts() -> None:
    assert Peers(()).name("10.0.0.1", "203.0.113.9") == "10.0.0.1"
