"""`python -m sheily_server`: settings, logging, the HTTP server, signals."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

import waitress
from tqdm import tqdm

from .app import MAX_BODY_BYTES, App
from .config import Config, ConfigError, load, unknown_variables
from .supervisor import Supervisor

log = logging.getLogger("sheily_server")


class LoadBar:
    """The progress of a model's load, drawn on a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None

    def __call__(self, fraction: float) -> None:
        if self._bar is None:
            form = "{desc} {percentage:3.0f}% |{bar}| {elapsed}"
            self._bar = tqdm(total=1.0, desc="loading the model", bar_format=form, leave=False)
        self._bar.update(fraction - self._bar.n)
        if fraction >= 1.0:
            self._bar.close()
            self._bar = None


def main(arguments: list[str] | None = None) -> int:
    try:
        config = load(sys.argv[1:] if arguments is None else arguments)
    except ConfigError as error:
        print(f"sheily_server: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # admission is the app's
    for sentence in unknown_variables(os.environ):
        log.warning("%s", sentence)
    supervisor = Supervisor(config, LoadBar() if sys.stderr.isatty() else None)
    try:
        return _serve(config, supervisor)
    finally:
        supervisor.stop()


def _serve(config: Config, supervisor: Supervisor) -> int:
    try:
        server = waitress.create_server(
            App(config, supervisor),
            host=config.host,
            port=config.port,
            threads=config.parallel + config.queue + 8,
            channel_request_lookahead=1,
            asyncore_use_poll=True,
            connection_limit=512,
            channel_timeout=60,
            max_request_body_size=MAX_BODY_BYTES,
            max_request_header_size=16384,
            ident=None,
        )
    except (OSError, ValueError) as error:
        print(
            f"sheily_server: cannot listen on {config.host}:{config.port}: {error}.",
            file=sys.stderr,
        )
        return 1
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    log.info("listening on http://%s:%s", config.host, server.effective_port)
    supervisor.start()
    server.run()  # returns when a signal raised SystemExit in it
    return 0


def _leave(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
