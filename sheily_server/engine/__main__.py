"""Starts the engine process: `python -m sheily_server.engine FD`, by the supervisor alone."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import threading

import sheily_native
from sheily_native import NativeError
from sheily_native.cpu import current_cpu

from ..prompts import UnknownDialectError
from .admission import Admission
from .answers import Answers
from .constraint import Grammars
from .fingerprint import fingerprint
from .messages import Channel, LoadFailed, Loading, Ready, Start
from .runner import Runner, Tokenizer, UnusableModelError, load_model
from .scheduler import Scheduler
from .settled import settled
from .vitals import Vitals, tell
from .worker import Engine, Inbox, read_commands

log = logging.getLogger(__name__)

_NATIVE_LOG_LEVELS = {"debug": 4, "info": 2, "warning": 2, "error": 1}


class _TaggedLines(logging.Formatter):
    """One line a record, beginning with the level's letter: what the supervisor reads."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", " | ")
        return f"{record.levelname[0]} {text}"


def main(fd: int) -> None:
    # The server process decides when this one ends, after it has drained; a Ctrl-C on the terminal
    # reaches both, and so does a SIGTERM to the whole service.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TaggedLines())
    channel = Channel(socket.socket(fileno=fd))
    start = channel.receive_command()
    if not isinstance(start, Start):
        os._exit(0)
    logging.basicConfig(handlers=[handler], level=start.log_level.upper())
    try:
        _serve(channel, start)
    except OSError:  # the server process is gone
        os._exit(0)


def _serve(channel: Channel, start: Start) -> None:
    vitals = Vitals()
    threading.Thread(target=tell, args=(vitals, channel), name="vitals", daemon=True).start()
    start, warnings = settled(start, current_cpu().model)
    for sentence in warnings:
        log.warning("%s", sentence)
    try:
        sheily_native.set_log_level(_NATIVE_LOG_LEVELS[start.log_level])
        model, dialect = load_model(
            start.model_path,
            lambda fraction: channel.send_events([Loading(fraction)]),
            None if start.kernel == "auto" else start.kernel,
        )
        if start.log_level != "debug":
            # llama.cpp would warn that all slots together are more than the model was trained for.
            sheily_native.set_log_level(_NATIVE_LOG_LEVELS["error"])
        runner = Runner(
            model,
            start.parallel,
            start.context_size,
            start.threads,
            start.chunk,
            start.kv_type,
        )
    except (NativeError, UnknownDialectError, UnusableModelError) as error:
        channel.send_events([LoadFailed(str(error))])
        channel.receive_command()  # stay until the server process has read that
        os._exit(0)
    vitals.heartbeat = runner.heartbeat
    tokenizer = Tokenizer(model)
    inbox: Inbox = queue.SimpleQueue()
    answers = Answers(start.parallel * start.context_size)
    admission = Admission(tokenizer, Grammars(model), answers, start)
    threading.Thread(
        target=read_commands, args=(channel, admission, inbox, vitals), name="reader", daemon=True
    ).start()
    channel.send_events(
        [
            Ready(
                dialect,
                model.metadata.get("general.name", ""),
                model.info.n_bytes,
                runner.kv_bytes,
                model.info.n_ctx_train,
                runner.n_threads,
                fingerprint(start.model_path),
                model.info.kernel,
                start.chunk,
                start.kv_type,
                start.parallel * start.context_size,
            )
        ]
    )
    scheduler = Scheduler(start.parallel, start.context_size, runner.n_sequences, start.chunk)
    Engine(channel, tokenizer, runner, scheduler, answers, inbox, vitals).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
