"""The HTTP server under the app: waitress, with the settings and the limits that this service
needs. Knows connections; knows nothing of routes."""

from __future__ import annotations

import contextlib
import logging
import resource
import time
from typing import Any

import waitress
from waitress.server import TcpWSGIServer

from ..config import Config
from .app import MAX_BODY_BYTES, SPARE_POSTS, App
from .connection import PATIENT_THREADS, Shared
from .listener import Listener
from .parsing import MAX_HEAD_BYTES

log = logging.getLogger(__name__)

# Threads beside one for each request that runs or waits: /health and refusals are answered under
# any load.
SPARE_THREADS = SPARE_POSTS + PATIENT_THREADS + 2
CONNECTIONS = 512
LEAST_CONNECTIONS = 8
CONNECTION_DESCRIPTORS = 2
"""What a connection may take: a large answer that is read slowly waits in a file."""
OWN_DESCRIPTORS = 40
"""What the server takes beside connections, the pipes to the engine included."""


class DescriptorsError(Exception):
    """There cannot be enough open files; the message is one sentence."""


def create(app: App, config: Config) -> Any:
    """A bound, listening waitress server. Raises OSError or ValueError for an address it cannot
    have, and DescriptorsError.

    Admission is the app's, so there is a thread for everything that it may admit. The look-ahead is
    what makes an end of the connection known at once. Bodies a few times too large are read to
    their end and refused by the app; larger ones are cut off, so that the answer may be lost.
    """
    server = waitress.create_server(
        app,
        host=config.host,
        port=config.port,
        threads=config.parallel + config.queue + SPARE_THREADS,
        channel_request_lookahead=1,
        asyncore_use_poll=True,
        connection_limit=connections(),
        cleanup_interval=1,
        max_request_body_size=4 * MAX_BODY_BYTES,
        max_request_header_size=MAX_HEAD_BYTES,
        ident=None,
    )
    shared = Shared(app)
    sockets = list(_sockets(server).values())
    server.adj.connection_limit += len(sockets)  # which are counted as connections are
    for listener in sockets:
        if isinstance(listener, TcpWSGIServer):
            listener.__class__ = Listener
            listener.shared = shared
    return server


def connections() -> int:
    """How many connections there may be. Raises the limit of open files for them where it may, and
    DescriptorsError where next to none have room."""
    wanted = OWN_DESCRIPTORS + CONNECTION_DESCRIPTORS * CONNECTIONS
    found = _raised_limit(wanted)
    if found >= wanted:
        return CONNECTIONS
    possible = (found - OWN_DESCRIPTORS) // CONNECTION_DESCRIPTORS
    if possible < LEAST_CONNECTIONS:
        least = OWN_DESCRIPTORS + CONNECTION_DESCRIPTORS * LEAST_CONNECTIONS
        raise DescriptorsError(
            f"the limit of open files is {found}, and {least} is the least: ulimit -n, or "
            "LimitNOFILE of systemd, raises it."
        )
    log.warning(
        "the limit of open files is %d, so that %d connections are accepted instead of %d: ulimit "
        "-n, or LimitNOFILE of systemd, raises it up to %d",
        found,
        possible,
        CONNECTIONS,
        wanted,
    )
    return possible


def _raised_limit(wanted: int) -> int:
    """How many files this process may have open, up to what is wanted."""
    soft, hard = (
        wanted if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    if soft < wanted and soft < hard:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):  # a sandbox, or a limit of the system's own
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), limits[1]))
            soft = min(wanted, hard)
    return min(soft, wanted)


def flush(server: Any, seconds: float = 2.0) -> None:
    """Waits until every answer is sent, for so many seconds at most."""
    sockets = _sockets(server)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        channels = [one for one in list(sockets.values()) if hasattr(one, "total_outbufs_len")]
        if not any(one.requests or one.total_outbufs_len for one in channels):
            return
        time.sleep(0.01)


def _sockets(server: Any) -> dict[int, Any]:
    """Listeners and connections, of the class for several addresses or of the one for one."""
    found: dict[int, Any] = getattr(server, "map", None) or server._map
    return found
