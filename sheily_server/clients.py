"""Who asks, as a nested path: an API key, in it the address of a peer, in it a user. Knows which of
several clients have most; not where the parts come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

Client = tuple[str, ...]
"""Up to DEPTH parts, the outermost first. Each is the digest of what it stands for, or empty."""

DEPTH = 3


def digest(text: str) -> str:
    """Returns a part of a path for a text of any length; that of no text is empty."""
    if not text:
        return ""
    data = text.encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=8, person=b"client").hexdigest()


def parts(client: Client) -> Iterator[Client]:
    """Yields the key, the peer and the user that a client is, each as a path."""
    for depth in range(1, len(client) + 1):
        yield client[:depth]


def having_most(held: Iterable[tuple[Client, int]]) -> Client:
    """Returns the client that has most, of at least one with how much each has: that of the key
    with most in all, in it of the peer with most, in it of the user. Of those with the same, the
    one named last."""
    left = list(held)
    for depth in range(1, DEPTH + 1):
        sums = _sums(left, depth)
        place = {client[:depth]: i for i, (client, _) in enumerate(left)}
        most = max(sums, key=lambda part: (sums[part], place[part]))
        left = [(client, n) for client, n in left if client[:depth] == most]
    return left[-1][0]


def giving_way(newcomer: Client, waiting: Sequence[Client]) -> Client | None:
    """Returns which client has one request less when a further one comes to those that wait, in the
    order in which they came; None where the newcomer gives way itself.

    At each level, those with most give way to who has none, or would not have more afterwards. Else
    it is settled within the newcomer's own part. A newcomer whose path ends early may be any client
    in it that has none; an empty path is a client too.
    """
    for depth in range(1, DEPTH + 1):
        counts = _sums([(client, 1) for client in waiting], depth)
        if not counts:
            return None
        own = counts.get(newcomer[:depth], 0)
        if not own or own + 1 < max(counts.values()):
            return having_most((client, 1) for client in waiting)
        waiting = [client for client in waiting if client[:depth] == newcomer[:depth]]
    return None


def _sums(held: Iterable[tuple[Client, int]], depth: int) -> dict[Client, int]:
    """Returns how much the clients have together that share their first `depth` parts."""
    sums: dict[Client, int] = {}
    for client, n in held:
        sums[client[:depth]] = sums.get(client[:depth], 0) + n
    return sums
