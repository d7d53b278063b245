"""The engine process at work: commands in, steps on the model, events out.

Two threads: the reader takes commands, tokenizes and admits; the engine thread, which is the main
one, runs the steps. They share a queue of what was admitted, and nothing else.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from dataclasses import dataclass

from sheily_native import NativeError

from .messages import (
    Admitted,
    Cancel,
    Channel,
    Event,
    Finished,
    RequestFailed,
    Start,
    Submit,
    Text,
    TooLong,
)
from .runner import Runner, Tokenizer
from .scheduler import Scheduler
from .sequence import Sequence
from .text import TextStream

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """A request as the engine thread sees it. Times are those of time.monotonic()."""

    submit: Submit
    sequence: Sequence
    text: TextStream
    arrived: float
    deadline: float
    started: float = 0.0
    first_token: float = 0.0


Inbox = queue.SimpleQueue["Job | Cancel"]


def read_commands(channel: Channel, tokenizer: Tokenizer, start: Start, inbox: Inbox) -> None:
    """The reader thread, until the server process closes its end: then the whole process leaves.

    `os._exit`, since the engine thread may be inside a step that nothing can interrupt.
    """
    while True:
        try:
            command = channel.receive_command()
            if command is None:
                os._exit(0)
            if isinstance(command, Cancel):
                inbox.put(command)
            elif isinstance(command, Submit):
                _admit(command, channel, tokenizer, start.context_size, inbox)
        except Exception:
            # A server process that is never answered would be worse off than one whose engine left.
            log.exception("the reader thread failed")
            os._exit(1)


def _admit(
    submit: Submit, channel: Channel, tokenizer: Tokenizer, context_size: int, inbox: Inbox
) -> None:
    """Tokenizes and answers with Admitted or TooLong; what is admitted has its place for sure, as
    every slot has `context_size` cells of its own."""
    arrived = time.monotonic()
    try:
        prompt = tokenizer.encode(submit.segments)
    except NativeError as error:
        channel.send_events([RequestFailed(submit.id, "engine_error", str(error))])
        return
    room = context_size - len(prompt)
    wanted = 1 if submit.max_tokens is None else submit.max_tokens
    if room < wanted:
        channel.send_events([TooLong(submit.id, len(prompt), wanted)])
        return
    max_tokens = min(room, submit.max_tokens or submit.max_tokens_cap)
    channel.send_events([Admitted(submit.id, len(prompt))])
    inbox.put(
        Job(
            submit,
            Sequence(submit.id, prompt, max_tokens),
            TextStream(submit.stop),
            arrived,
            arrived + submit.timeout,
        )
    )


class Engine:
    """The engine thread's loop over schedule, step and commit."""

    def __init__(
        self,
        channel: Channel,
        tokenizer: Tokenizer,
        runner: Runner,
        scheduler: Scheduler,
        inbox: Inbox,
    ) -> None:
        self._channel = channel
        self._tokenizer = tokenizer
        self._runner = runner
        self._scheduler = scheduler
        self._inbox = inbox
        self._jobs: dict[int, Job] = {}
        self._events: list[Event] = []

    def run(self) -> None:
        """Works for ever; ends with OSError when the server process is gone."""
        while True:
            self._take_inbox()
            self._expire()
            self._step()
            events, self._events = self._events, []
            self._channel.send_events(events)

    def _take_inbox(self) -> None:
        """All that came in; waits for something when there is nothing to compute."""
        while True:
            try:
                item = self._inbox.get(block=self._scheduler.idle and not self._events)
            except queue.Empty:
                return
            if isinstance(item, Job):
                self._jobs[item.submit.id] = item
                self._scheduler.add(item.sequence)
            elif item.id in self._jobs:
                self._release(self._jobs[item.id])

    def _expire(self) -> None:
        now = time.monotonic()
        for job in [job for job in self._jobs.values() if job.deadline <= now]:
            if job.sequence.generated:
                self._finish(job, "length", timed_out=True)
            else:
                self._fail(job, "timeout", "the deadline passed before the first token")

    def _step(self) -> None:
        plan = self._scheduler.schedule()
        if plan is None:
            return
        try:
            now = time.monotonic()
            for sequence in plan.started:
                job = self._jobs[sequence.id]
                job.started = now
                self._runner.start(sequence.id, job.submit.sampling, sequence.prompt)
            sampled = self._runner.step(plan)
        except NativeError as error:
            log.error("a step failed: %s", error)
            self._runner.clear()
            for sequence in self._scheduler.drop_all():
                self._fail(self._jobs[sequence.id], "engine_error", str(error), removed=True)
            return
        for sequence, token in self._scheduler.commit(plan, sampled):
            self._take_token(self._jobs[sequence.id], token)

    def _take_token(self, job: Job, token: int) -> None:
        if not job.first_token:
            job.first_token = time.monotonic()
        if self._tokenizer.is_end(token):
            self._finish(job, "stop")
            return
        text = job.text.push(self._tokenizer.piece(token))
        if text:
            self._events.append(Text(job.submit.id, text))
        if job.text.stopped:
            self._finish(job, "stop")
        elif len(job.sequence.generated) >= job.sequence.max_tokens:
            self._finish(job, "length")

    def _finish(self, job: Job, reason: str, timed_out: bool = False) -> None:
        rest = job.text.finish()
        if rest:
            self._events.append(Text(job.submit.id, rest))
        now = time.monotonic()
        self._events.append(
            Finished(
                job.submit.id,
                reason,
                timed_out,
                prompt_tokens=len(job.sequence.prompt),
                cached_tokens=job.sequence.n_cached,
                completion_tokens=len(job.sequence.generated),
                queued_s=job.started - job.arrived,
                prefill_s=job.first_token - job.started,
                decode_s=now - job.first_token,
            )
        )
        self._release(job)

    def _fail(self, job: Job, code: str, message: str, removed: bool = False) -> None:
        self._events.append(RequestFailed(job.submit.id, code, message))
        self._release(job, removed)

    def _release(self, job: Job, removed: bool = False) -> None:
        if not removed:
            self._scheduler.remove(job.sequence)
        self._runner.end(job.submit.id)
        del self._jobs[job.submit.id]
