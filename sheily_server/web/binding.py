"""Says why the server cannot listen on its address, and who has the port."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import socket

from ..config import Config, variable
from ..hosts import is_everywhere

PROBE_S = 2.0
_OWN_FIELDS = {"model", "state", "engine_restarts"}
"""Fields of /health by which a server of this project is known."""
_LEAST_FREE_PORT = 1024
"""Ports below are for root by default."""


class BindingError(Exception):
    """The server cannot listen on its address; the message is one sentence that names a setting."""


def explained(config: Config, error: OSError | ValueError) -> BindingError:
    """Returns the error that says why binding failed. May ask the server that has the port."""
    host, port = config.host, config.port
    host_set, port_set = variable("host"), variable("port")
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return BindingError(
            f"{port_set} is {port}, which is in use on {host}: {_user(host, port)}. Stop that one, "
            f"or choose another port; {port_set}=0 takes a free one."
        )
    if number in (errno.EACCES, errno.EPERM):
        advice = f" Choose one from {_LEAST_FREE_PORT} on." if port < _LEAST_FREE_PORT else ""
        return BindingError(f"{port_set} is {port}, where this user may not listen.{advice}")
    if number == errno.EADDRNOTAVAIL:
        return BindingError(f"{host_set} is {host!r}, which is not an address of this machine.")
    if not _resolves(host):
        return BindingError(
            f"{host_set} is {host!r}, which is neither an address nor a name that can be looked up."
        )
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return BindingError(
        f"{host_set} is {host!r} and {port_set} is {port}: listening there failed "
        f"({reason.rstrip('.')})."
    )


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return False


def own_server(host: str, port: int) -> str | None:
    """Returns the model of a server of this project that has the port; None if there is none."""
    local = "127.0.0.1" if is_everywhere(host) else host
    connection = http.client.HTTPConnection(local, port, timeout=PROBE_S)
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        try:
            connection.request("GET", "/health", headers={"Host": "localhost"})
            found = json.loads(connection.getresponse().read(1 << 16))
        finally:
            connection.close()
        if isinstance(found, dict) and found.keys() >= _OWN_FIELDS:
            return str(found["model"])
    return None


def _user(host: str, port: int) -> str:
    """Says which program has a port, as far as it tells."""
    model = own_server(host, port)
    if model is None:
        return "by another program"
    return f"by another server of SHEILY, with the model {model!r}"
