"""The reader thread, which receives commands and has them admitted. It shares only a queue of
admitted jobs with the engine thread."""

from __future__ import annotations

import logging
import os
import queue
from collections.abc import Callable
from dataclasses import dataclass

from ..protocol.channel import Channel
from ..protocol.commands import Cancel, Forget, Start
from ..protocol.events import RequestEvent
from .admission import Admission, Job
from .scheduling.drafts import Index

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Indexed:
    """The texts that a request's drafts come from are ready for look-ups."""

    job: Job
    prompt: Index
    prediction: Index


@dataclass(frozen=True, slots=True)
class Woken:
    """A mask is ready that the engine had stopped waiting for, or the disk tier has something."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The server process is gone: the engine writes what is to be kept, and ends."""


Inbox = queue.SimpleQueue["Job | Cancel | Forget | Indexed | Woken | Leave"]


def answer_to(channel: Channel, inbox: Inbox) -> Callable[[RequestEvent, Job | None], None]:
    """Returns the function by which an admission answers. It sends the event before it queues the
    job for the engine thread, so that the event precedes all others of its request."""

    def answer(event: RequestEvent, job: Job | None) -> None:
        channel.send_events([event])
        if job is not None:
            inbox.put(job)

    return answer


def read_commands(
    channel: Channel, admission: Admission, inbox: Inbox, leave: Callable[[], None]
) -> None:
    """Body of the reader thread. Calls `leave` when the server process closes its end."""
    try:
        while True:
            command = channel.receive_command()
            if command is None:
                leave()
                return
            if isinstance(command, Forget):
                inbox.put(command)
            elif isinstance(command, Cancel):
                if not admission.cancel(command.id):
                    inbox.put(command)
            elif isinstance(command, Start):
                log.error("the engine was told to start twice")
            else:
                admission.take(command)
    except BaseException:  # a Rust panic is not an Exception
        # Leaving is better for the server process than never being answered.
        log.exception("the reader thread failed")
        os._exit(1)
