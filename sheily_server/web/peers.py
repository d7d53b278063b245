"""Whose request it is, by its address: that of the connection, or what a trusted proxy says. Knows
addresses, and no keys or users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..hosts import Address, Network, parse_address
from .guard import GivenKeys

_LOOPBACK = "loopback"


class Sender(NamedTuple):
    """What a request's head says of who sent it: its keys, and the address of its connection."""

    keys: GivenKeys
    address: str
    forwarded: str


class Peers:
    """Tells peers from each other. X-Forwarded-For counts as far as `trusted` proxies wrote it:
    each appends the address that it was called from, so what stands before the first address that
    is no trusted proxy may be invented."""

    def __init__(self, trusted: Iterable[Network]) -> None:
        self._trusted = tuple(trusted)

    def name(self, address: str, forwarded: str) -> str:
        """Returns the name of a peer, from the address of its connection and its X-Forwarded-For.
        Programs on this machine are one peer: each may choose among millions of addresses."""
        peer = parse_address(address)
        if peer is None:
            return address
        hops = forwarded.split(",") if forwarded else []
        while hops and self._trusts(peer):
            before = parse_address(hops.pop().strip())
            if before is None:
                break
            peer = before
        return _LOOPBACK if peer.is_loopback else str(peer)

    def _trusts(self, peer: Address) -> bool:
        return any(peer in network for network in self._trusted)
