"""The HTTP server under the app: waitress, with the settings that this service needs."""

from __future__ import annotations

from typing import Any

import waitress

from .app import MAX_BODY_BYTES, App
from .config import Config

# Threads beside one for each request that runs or waits: /health and refusals are answered under
# any load.
SPARE_THREADS = 8


def create(app: App, config: Config) -> Any:
    """A bound, listening waitress server. Raises OSError or ValueError for an address it cannot
    have.

    Admission is the app's, so there is a thread for everything that it may admit. The look-ahead is
    what makes `waitress.client_disconnected` tell at once. Bodies a few times too large still reach
    the app, which refuses them in JSON.
    """
    return waitress.create_server(
        app,
        host=config.host,
        port=config.port,
        threads=config.parallel + config.queue + SPARE_THREADS,
        channel_request_lookahead=1,
        asyncore_use_poll=True,
        connection_limit=512,
        channel_timeout=60,
        max_request_body_size=4 * MAX_BODY_BYTES,
        max_request_header_size=16384,
        ident=None,
    )
