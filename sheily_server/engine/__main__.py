"""Starts the engine process: `python -m sheily_server.engine FD`. Only the supervisor runs it."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time

import sheily_native
from sheily_native import InvalidArgumentError, NativeError, kernels
from sheily_native._threads import default_threads
from sheily_native.cpu import current_cpu

from ..heap import give_back_large_blocks, use_one_heap
from ..protocol.channel import Channel
from ..protocol.commands import Start
from ..protocol.events import LoadFailed, Loading, Ready
from ..templates.registry import UnknownPromptFormatError
from ..version import ShowVersion
from .admission import Admission
from .disk.opening import notes_in, open_folder, open_tier
from .fingerprint import fingerprint
from .grammar.constraint import Grammars
from .grammar.trials import Trials
from .inbox import Inbox, Leave, Woken, answer_to, read_commands
from .kvcache.answer_ids import AnswerIds
from .lanes import Lanes
from .runner import Runner, load_model
from .scheduling.scheduler import Scheduler
from .settled import settled
from .tokenizer import Tokenizer, UnusableModelError
from .vitals import Vitals, tell
from .worker import Engine

log = logging.getLogger(__name__)

SHARES = 8
LEAST_LEXER_STATES, MOST_LEXER_STATES, ALL_LEXER_STATES = 2_000, 20_000, 60_000
"""Each state takes 1 to 2 kB."""
LEAVE_S = 12.0
"""How long the engine may take to end when the server process is gone."""
_NATIVE_LOG_LEVELS = {"debug": 4, "info": 2, "warning": 2, "error": 1}


class _TaggedLines(logging.Formatter):
    """Formats each record as one line that begins with its level's letter, for the supervisor."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", " | ")
        return f"{record.levelname[0]} {text}"


def main(fd: int) -> None:
    # The server process ends this one after draining. Ctrl-C on the terminal and SIGTERM to the
    # whole service reach both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    give_back_large_blocks()
    use_one_heap()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TaggedLines())
    channel = Channel(socket.socket(fileno=fd))
    start = channel.receive_command()
    if not isinstance(start, Start):
        os._exit(0)
    logging.basicConfig(handlers=[handler], level=start.log_level.upper())
    try:
        _serve(channel, start)
    except ConnectionError:  # the server process is gone
        os._exit(0)
    except BaseException:  # skips Python's shutdown: threads may be in native code
        log.exception("the engine failed")
        os._exit(1)


def _serve(channel: Channel, start: Start) -> None:
    vitals = Vitals()
    threading.Thread(target=tell, args=(vitals, channel), name="vitals", daemon=True).start()
    start, warnings = settled(start, current_cpu().model, default_threads())
    for sentence in warnings:
        log.warning("%s", sentence)
    compiling = Compiling(lexer_states(start.parallel))
    try:
        sheily_native.set_log_level(_NATIVE_LOG_LEVELS[start.log_level])
        mark = _fingerprint(start.model_path)
        model, prompt_format, tokenizer = load_model(
            start.model_path,
            lambda fraction: channel.send_events([Loading(fraction)]),
            _kernel(start.kernel),
            compiling.begin,
        )
        if start.log_level != "debug":
            # llama.cpp would warn that all slots together are more than the model was trained for.
            sheily_native.set_log_level(_NATIVE_LOG_LEVELS["error"])
        runner = Runner(
            model,
            tokenizer,
            n_slots=start.parallel,
            n_cells=start.n_cells,
            n_threads=start.threads,
            chunk=start.chunk,
            kv_type=start.kv_type,
        )
    except (NativeError, UnknownPromptFormatError, UnusableModelError) as error:
        channel.send_events([LoadFailed(str(error))])
        channel.receive_command()  # stay until the server process has read it
        os._exit(0)
    vitals.heartbeat = runner.heartbeat
    inbox: Inbox = queue.SimpleQueue()
    folder = open_folder(start)
    answers = AnswerIds(start.n_cells, None if folder is None else notes_in(folder))
    trials, grammars = compiling.result()
    admission = Admission(
        tokenizer=tokenizer,
        lanes=Lanes(vitals),
        trials=trials,
        answers=answers,
        start=start,
        answer=answer_to(channel, inbox),
    )
    scheduler = Scheduler(
        n_slots=start.parallel,
        context_size=start.context_size,
        n_sequences=runner.n_sequences,
        n_cells=start.n_cells,
        chunk=start.chunk,
        stream_slowdown=start.stream_slowdown,
    )
    tier = open_tier(folder, start, runner, scheduler, wake=lambda: inbox.put(Woken()))
    if tier is not None:
        vitals.disk, vitals.leave = tier.state, functools.partial(_leave, inbox)
    threading.Thread(
        target=read_commands,
        args=(channel, admission, inbox, vitals.leave),
        name="reader",
        daemon=True,
    ).start()
    channel.send_events(
        [
            Ready(
                prompt_format=prompt_format,
                model_bytes=model.info.n_bytes,
                kv_bytes=runner.kv_bytes,
                n_ctx_train=model.info.n_ctx_train,
                n_threads=runner.n_threads,
                fingerprint=mark,
                kernel=model.info.kernel,
                chunk=start.chunk,
                kv_type=start.kv_type,
                kv_cells=start.n_cells,
            )
        ]
    )
    Engine(
        channel=channel,
        tokenizer=tokenizer,
        runner=runner,
        scheduler=scheduler,
        answers=answers,
        grammars=grammars,
        inbox=inbox,
        vitals=vitals,
        root=str.encode if tier is None else tier.root,
        tier=tier,
    ).run()
    os._exit(0)


def _leave(inbox: Inbox) -> None:
    """Has the engine thread keep what is to be kept, after which it ends the process. Ends it
    anyway if that takes too long: the thread may be inside a step that nothing can interrupt."""
    inbox.put(Leave())
    time.sleep(LEAVE_S)
    os._exit(0)


def _kernel(wanted: str) -> str | None:
    """Returns the kernel for `load_model`. Raises InvalidArgumentError if this CPU lacks it."""
    found = (kernels.AUTO, kernels.OFF, *kernels.usable())
    if wanted not in found:
        raise InvalidArgumentError(
            f"LLM_KERNEL is {wanted!r}; on this CPU it can be {', '.join(found)}."
        )
    return None if wanted == kernels.AUTO else wanted


def _fingerprint(path: str) -> str:
    """Raises UnusableModelError when the file can no longer be read."""
    try:
        return fingerprint(path)
    except OSError as error:
        raise UnusableModelError(
            f"The model {path} cannot be read: {error.strerror or error}."
        ) from error


class Compiling:
    """Prepares what compiles grammars while the weights are loaded."""

    def __init__(self, most_states: int) -> None:
        self._most_states = most_states
        self._made: tuple[Trials, Grammars] | None = None
        self._preparing: threading.Thread | None = None

    def begin(self, tokenizer: Tokenizer) -> None:
        trials = Trials(tokenizer.vocabulary, self._most_states)
        trials.start()
        grammars = Grammars(tokenizer.vocabulary, self._most_states, tokenizer.encode_bytes)
        self._made = trials, grammars
        self._preparing = threading.Thread(
            target=prepare, args=(grammars,), name="prepare", daemon=True
        )
        self._preparing.start()

    def result(self) -> tuple[Trials, Grammars]:
        """Waits until everything is ready."""
        if self._made is None or self._preparing is None:
            raise RuntimeError("nothing was begun")
        self._preparing.join()
        return self._made


def prepare(grammars: Grammars) -> None:
    """Prepares the vocabulary for grammars. Ends the process with a log line when that fails, since
    the engine would otherwise stall at the first grammar."""
    try:
        grammars.prepare()
    except BaseException:  # a Rust panic is not an Exception
        log.exception("the vocabulary cannot be used for grammars")
        os._exit(1)


def lexer_states(parallel: int) -> int:
    """Returns how many states a grammar's lexer may have, so that the lexers of all running answers
    together stay within bounds; twice as many where many run, few of which have large ones."""
    shares = max(min(parallel, SHARES), (parallel + 1) // 2)
    return max(LEAST_LEXER_STATES, min(MOST_LEXER_STATES, ALL_LEXER_STATES // shares))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m sheily_server.engine",
        description="The engine process. `python -m sheily_server` starts it by itself.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("fd", type=int, help="the socket to the server process")
    main(parser.parse_args().fd)
