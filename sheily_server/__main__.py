"""`python -m sheily_server`: settings, logging, the HTTP server, signals."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from . import heap, logs
from .api.responses.kept import interrupted
from .backend.cache import open_cache
from .backend.kernels import check_kernel
from .backend.supervisor import Supervisor
from .config import PROGRAM, Config, ConfigError, load, open_doors, unknown_variables
from .errors import StoreError
from .hosts import is_everywhere
from .store.base import Store
from .store.opening import open_store
from .web import server as http_server
from .web.app import App
from .web.binding import BindingError

log = logging.getLogger("sheily_server")


STOPS = (signal.SIGTERM, signal.SIGINT)
TOGETHER_S = 0.2
"""Seconds within which two signals are one: nobody presses Ctrl-C twice so fast."""


class LoadBar:
    """Draws the progress of a model's load. Never waits for the terminal, which may be stopped."""

    def __init__(self, writer: logs.Writer) -> None:
        self._file = logs.Drawing(writer)
        self._bar: tqdm[None] | None = None

    def __call__(self, fraction: float) -> None:
        if self._bar is None:
            form = "{desc} {percentage:3.0f}% |{bar}| {elapsed}"
            self._bar = tqdm(
                total=1.0,
                desc="loading the model",
                bar_format=form,
                leave=False,
                file=self._file,
                ncols=_columns(),
            )
        self._bar.update(fraction - self._bar.n)
        if fraction >= 1.0:
            self._bar.close()
            self._bar = None


def _columns() -> int:
    """Returns the width of standard error's terminal."""
    try:
        return os.get_terminal_size(logs.STDERR).columns or 80
    except OSError:
        return 80


def main(arguments: list[str] | None = None, *, program: str = PROGRAM) -> int:
    """Runs the server until it is told to stop. Returns its exit code; `program` is for usage."""
    logs.keep_standard_descriptors()
    try:
        config = load(sys.argv[1:] if arguments is None else arguments, program=program)
    except ConfigError as error:
        print(_early_formatter().last_words(str(error)), file=sys.stderr)
        return 2
    heap.use_one_heap()  # before the first thread, which would get its own
    heap.give_back_large_blocks()
    writer = logs.begin(config.log_level, config.log_format)
    try:
        return _run(config, writer)
    except KeyboardInterrupt:  # before there are handlers for signals
        log.info("told to stop before the start was complete")
        return 128 + signal.SIGINT
    except Exception:
        log.critical("the server made an error and cannot go on", exc_info=True)
        return 1
    finally:
        writer.close()


def _early_formatter() -> logs.Formatter:
    """For an error in the settings: of these, only the environment is certain."""
    form: logs.LogFormat = "json" if os.environ.get("LLM_LOG_FORMAT") == "json" else "text"
    return logs.Formatter(form, priorities=logs.is_journal())


def _run(config: Config, writer: logs.Writer) -> int:
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # the app controls admission
    if config.log_level != "debug":  # the app's own line on a client that has left has the id
        logging.getLogger("waitress").setLevel(logging.WARNING)
    for sentence in [*unknown_variables(os.environ), *open_doors(config)]:
        log.warning("%s", sentence)
    try:
        check_kernel(config, os.environ)
        cache = open_cache(config)
        store = open_store(
            config.store,
            days=config.store_days,
            megabytes=config.store_limit_mb,
            interrupted=interrupted,
        )
    except (ConfigError, StoreError) as error:
        return _refuse(writer, str(error), 2)
    draws = config.log_format == "text" and os.isatty(logs.STDERR)
    supervisor = Supervisor(config, LoadBar(writer) if draws else None, cache=cache)
    try:
        return _serve(config, supervisor, store, writer)
    finally:
        supervisor.stop()
        store.close()


def _refuse(writer: logs.Writer, sentence: str, code: int) -> int:
    """Says why the server does not start; returns the exit code."""
    writer.put(f"{writer.formatter.last_words(sentence)}\n")
    return code


def _serve(config: Config, supervisor: Supervisor, store: Store, writer: logs.Writer) -> int:
    try:
        app = App(config, supervisor, store)
        server = http_server.create(app, config)
    except (http_server.DescriptorsError, BindingError) as error:
        return _refuse(writer, str(error), 1)

    signals = Signals()
    signals.listen()
    # A name with several addresses, as localhost may have, gets a server of another class.
    several = getattr(server, "effective_listen", None)
    for host, port in several or [(config.host, server.effective_port)]:
        log.info("listening on http://%s:%s", f"[{host}]" if ":" in host else host, port)
    if config.page == "on":
        port = several[0][1] if several else server.effective_port
        log.info(
            "state, and examples to paste, in a browser: http://%s:%s/; for a page to chat, "
            "dashboard in the sources",
            _reachable(config.host),
            port,
        )
    supervisor.start()
    http = _HttpLoop(server, signals.first)
    signals.first.wait()
    if not http.failed:
        _drain(config, supervisor, signals.second)
    supervisor.stop()
    if not http.failed:
        http_server.flush(server)
    app.close()
    log.info("stopped")
    return int(http.failed)


class Signals:
    """Tells the first signal to stop from a second. Two that come together are one: a Ctrl-C that
    reaches this process from the terminal, and from a program that passes it on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.first = threading.Event()
        self.second = threading.Event()
        self._clock = clock
        self._began = 0.0

    def listen(self) -> None:
        """Hears SIGTERM and SIGINT from now on, on a thread of its own, whichever thread the system
        gives them to. A handler in Python would run on the first thread, in the middle of what that
        does: it could wait for ever for a lock that this thread has."""
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in STOPS:
            signal.signal(number, lambda signum, frame: None)
        threading.Thread(target=self._hear, args=(heard,), name="signals", daemon=True).start()

    def _hear(self, fd: int) -> None:
        while numbers := os.read(fd, 64):
            for number in numbers:
                if number in STOPS:
                    self.came()

    def came(self) -> None:
        if not self.first.is_set():
            self._began = self._clock()
            self.first.set()
        elif self._clock() - self._began >= TOGETHER_S:
            self.second.set()


def _reachable(host: str) -> str:
    """Returns the name under which a browser on this machine finds a server that listens there."""
    if is_everywhere(host):
        return "localhost"
    return f"[{host}]" if ":" in host else host


class _HttpLoop:
    """The thread that serves HTTP. It must not end: when it does, it sets `failed` and `stop`."""

    def __init__(self, server: Any, stop: threading.Event) -> None:
        self.failed = False
        self._server = server
        self._stop = stop
        threading.Thread(target=self._run, name="http", daemon=True).start()

    def _run(self) -> None:
        try:
            self._server.run()
            log.critical("the HTTP server ended by itself")
        except BaseException:
            log.critical("the HTTP server ended by an error", exc_info=True)
        finally:
            self.failed = True
            self._stop.set()


def _drain(config: Config, supervisor: Supervisor, stop: threading.Event) -> None:
    """Waits for admitted requests to end, or until `stop` is set."""
    done = threading.Event()

    def drain() -> None:
        try:
            if not supervisor.drain(config.drain_timeout) and not stop.is_set():
                log.warning(
                    "%s did not end within %g s (LLM_DRAIN_TIMEOUT): ending them now",
                    _requests(supervisor),
                    config.drain_timeout,
                )
        except Exception:
            log.exception("ending all requests: waiting for them failed")
        finally:
            done.set()
            stop.set()

    if supervisor.busy:
        log.info(
            "told to stop: %s may end within %g s (LLM_DRAIN_TIMEOUT); a second Ctrl-C or SIGTERM "
            "ends them at once",
            _requests(supervisor),
            config.drain_timeout,
        )
    else:
        log.info("told to stop: no requests are running")
    threading.Thread(target=drain, name="drain", daemon=True).start()
    stop.wait()
    if not done.is_set() and supervisor.busy:
        log.warning("told to stop again: ending %s now", _requests(supervisor))


def _requests(supervisor: Supervisor) -> str:
    n = supervisor.busy
    return f"{n} request{'s' * (n != 1)}"


if __name__ == "__main__":
    sys.exit(main())
