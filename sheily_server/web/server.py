"""The HTTP server under the app: waitress, with this service's settings and limits. Knows
connections, but nothing of routes."""

from __future__ import annotations

import contextlib
import logging
import resource
import time
from typing import Any

import waitress
from waitress.server import TcpWSGIServer

from ..config import Config
from .app import KEPT_POSTS, MAX_BODY_BYTES, SPARE_POSTS, App
from .binding import explained
from .connection import PATIENT_THREADS, Shared
from .listener import Listener
from .parsing import MAX_HEAD_BYTES

log = logging.getLogger(__name__)

# Threads beyond one for each running or waiting request, and for each reader who comes back to a
# response in the background, so that /health and refusals are answered
# under any load.
SPARE_THREADS = SPARE_POSTS + KEPT_POSTS + PATIENT_THREADS + 2
CONNECTIONS = 512
LEAST_CONNECTIONS = 8
CONNECTION_DESCRIPTORS = 2
"""Descriptors that a connection may take: a large answer that is read slowly waits in a file."""
OWN_DESCRIPTORS = 40
"""Descriptors that the server takes besides connections, including the pipes to the engine."""


class DescriptorsError(Exception):
    """The limit of open files is too low; the message is one sentence."""


def create(app: App, config: Config) -> Any:
    """Returns a bound, listening waitress server. Raises BindingError for an address where it
    cannot listen, and DescriptorsError.

    The app controls admission, so there is a thread for everything that it may admit. The
    look-ahead makes the end of a connection known at once. Bodies a few times too large are read to
    their end and refused by the app. Larger ones are cut off, so the answer may be lost.
    """
    limit = connections()
    try:
        server = waitress.create_server(
            app,
            host=config.host,
            port=config.port,
            threads=config.parallel + config.queue + config.background + SPARE_THREADS,
            channel_request_lookahead=1,
            asyncore_use_poll=True,
            connection_limit=limit,
            cleanup_interval=1,
            max_request_body_size=4 * MAX_BODY_BYTES,
            max_request_header_size=MAX_HEAD_BYTES,
            ident=None,
            clear_untrusted_proxy_headers=False,  # web/peers.py says whose count
        )
    except (OSError, ValueError) as error:
        raise explained(config, error) from error
    shared = Shared(app)
    sockets = list(_sockets(server).values())
    server.adj.connection_limit += len(sockets)  # listening sockets count as connections
    for listener in sockets:
        if isinstance(listener, TcpWSGIServer):
            listener.__class__ = Listener
            listener.shared = shared
    return server


def connections() -> int:
    """Returns how many connections are possible. Raises the limit of open files for them if
    allowed, and DescriptorsError if fewer than LEAST_CONNECTIONS fit."""
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
    """Raises the limit of open files if needed and allowed; returns it, at most `wanted`."""
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
    """Waits until every answer is sent, for at most `seconds`."""
    sockets = _sockets(server)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        channels = [one for one in list(sockets.values()) if hasattr(one, "total_outbufs_len")]
        if not any(one.requests or one.total_outbufs_len for one in channels):
            return
        time.sleep(0.01)


def _sockets(server: Any) -> dict[int, Any]:
    """Returns listeners and connections, whether waitress listens on one address or several."""
    found: dict[int, Any] = getattr(server, "map", None) or server._map
    return found
