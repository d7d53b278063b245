"""Commands on their way in: the reader thread takes them and has them admitted. It shares a queue
of what was admitted with the engine thread, and nothing else."""

from __future__ import annotations

import logging
import os
import queue
from collections.abc import Callable
from dataclasses import dataclass

from ..protocol.channel import Channel
from ..protocol.commands import Cancel, Start
from ..protocol.events import RequestEvent
from .admission import Admission, Job
from .scheduling.drafts import Index

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Indexed:
    """The texts that a request's drafts come from can be looked up now."""

    job: Job
    prompt: Index
    prediction: Index


@dataclass(frozen=True, slots=True)
class Woken:
    """A mask is there that the engine has waited for in vain."""


Inbox = queue.SimpleQueue["Job | Cancel | Indexed | Woken"]


def answer_to(channel: Channel, inbox: Inbox) -> Callable[[RequestEvent, Job | None], None]:
    """How an admission answers: the event goes to the server process before the job to the
    engine thread, so that it comes before all others of its request."""

    def answer(event: RequestEvent, job: Job | None) -> None:
        channel.send_events([event])
        if job is not None:
            inbox.put(job)

    return answer


def read_commands(channel: Channel, admission: Admission, inbox: Inbox) -> None:
    """The reader thread, until the server process closes its end: then the whole process leaves.

    `os._exit`, since the engine thread may be inside a step that nothing can interrupt.
    """
    try:
        while True:
            command = channel.receive_command()
            if command is None:
                os._exit(0)
            if isinstance(command, Cancel):
                if not admission.cancel(command.id):
                    inbox.put(command)
            elif isinstance(command, Start):
                log.error("the engine was told to start twice")
            else:
                admission.take(command)
    except BaseException:  # a panic in Rust is no Exception
        # A server process that is never answered would be worse off than one whose engine left.
        log.exception("the reader thread failed")
        os._exit(1)
