"""`python -m sheily_server`: settings, logging, the HTTP server, signals."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading

from tqdm import tqdm

from . import http_server
from .app import App
from .config import Config, ConfigError, load, open_doors, unknown_variables
from .supervisor import Supervisor

log = logging.getLogger("sheily_server")

_M_ARENA_MAX = -8  # of malloc.h


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
    use_one_heap()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # admission is the app's
    for sentence in [*unknown_variables(os.environ), *open_doors(config)]:
        log.warning("%s", sentence)
    supervisor = Supervisor(config, LoadBar() if sys.stderr.isatty() else None)
    try:
        return _serve(config, supervisor)
    finally:
        supervisor.stop()


def use_one_heap() -> None:
    """glibc lets threads have heaps of their own, whose free parts serve no other thread, so that
    memory grows for an hour until all have had their largest request. Python's threads take turns
    anyway. Does nothing where the C library is another one, or MALLOC_ARENA_MAX says what to do."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _serve(config: Config, supervisor: Supervisor) -> int:
    try:
        server = http_server.create(App(config, supervisor), config)
    except (OSError, ValueError) as error:
        print(
            f"sheily_server: cannot listen on {config.host}:{config.port}: {error}.",
            file=sys.stderr,
        )
        return 1

    stop = threading.Event()

    def serve() -> None:
        try:
            server.run()
        finally:
            stop.set()

    running = threading.Thread(target=serve, name="http", daemon=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: stop.set())
    # A name with several addresses, as localhost may be, gets a server of another class.
    several = getattr(server, "effective_listen", None)
    for host, port in several or [(config.host, server.effective_port)]:
        log.info("listening on http://%s:%s", f"[{host}]" if ":" in host else host, port)
    supervisor.start()
    running.start()
    stop.wait()
    _drain(config, supervisor, stop)
    supervisor.stop()
    http_server.flush(server)
    return 0


def _drain(config: Config, supervisor: Supervisor, stop: threading.Event) -> None:
    """Lets what is admitted come to its end; a second signal ends that."""
    stop.clear()
    done = threading.Event()

    def drain() -> None:
        if not supervisor.drain(config.drain_timeout):
            log.warning("requests are ended that took more than %g s", config.drain_timeout)
        done.set()
        stop.set()

    log.info("shutting down: requests that were admitted are answered first")
    threading.Thread(target=drain, name="drain", daemon=True).start()
    stop.wait()
    if not done.is_set():
        log.warning("told to stop again: requests are ended now")


if __name__ == "__main__":
    sys.exit(main())
