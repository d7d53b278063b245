"""The engine process at work: commands in, steps on the model, events out.

Two threads: the reader takes commands, tokenizes and admits; the engine thread, which is the main
one, runs the steps. They share a queue of what was admitted, and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import time
from dataclasses import dataclass

from sheily_native import InvalidArgumentError, NativeError

from .admission import Admission, Job
from .answers import Answers
from .choice import Choice
from .messages import (
    SCHEMA_TOO_COMPLEX,
    Cancel,
    Channel,
    ChoiceFinished,
    Event,
    Finished,
    RequestFailed,
)
from .runner import Output, Runner, Tokenizer
from .scheduler import Plan, Scheduler
from .vitals import Vitals

log = logging.getLogger(__name__)

COUNT_S = 0.25
TOGETHER_GAP_S = 0.004
TOGETHER_S = 0.02
"""Requests that follow the first one so closely, for so long at most, begin in one step with it: a
step takes far longer."""

Inbox = queue.SimpleQueue["Job | Cancel"]


def read_commands(channel: Channel, admission: Admission, inbox: Inbox, vitals: Vitals) -> None:
    """The reader thread, until the server process closes its end: then the whole process leaves.

    `os._exit`, since the engine thread may be inside a step that nothing can interrupt.
    """
    admission.prepare()
    while True:
        try:
            command = channel.receive_command()
            if command is None:
                os._exit(0)
            if isinstance(command, Cancel):
                inbox.put(command)
            else:
                vitals.reading_since = time.monotonic()
                event, job = admission.answer(command)
                vitals.reading_since = None
                channel.send_events([event])
                if job is not None:
                    inbox.put(job)
        except BaseException:  # a panic in Rust is no Exception
            # A server process that is never answered would be worse off than one whose engine left.
            log.exception("the reader thread failed")
            os._exit(1)


@dataclass(slots=True)
class _Running:
    """A request in the engine thread. Times are those of time.monotonic()."""

    job: Job
    open: dict[int, Choice]
    started: float = 0.0
    first_token: float = 0.0
    completion_tokens: int = 0


class Engine:
    """The engine thread's loop over schedule, step and commit."""

    def __init__(
        self,
        channel: Channel,
        tokenizer: Tokenizer,
        runner: Runner,
        scheduler: Scheduler,
        answers: Answers,
        inbox: Inbox,
        vitals: Vitals,
    ) -> None:
        self._channel = channel
        self._tokenizer = tokenizer
        self._runner = runner
        self._scheduler = scheduler
        self._answers = answers
        self._inbox = inbox
        self._vitals = vitals
        self._requests: dict[int, _Running] = {}
        self._choices: dict[int, Choice] = {}
        self._n_sequences = 0
        self._events: list[Event] = []
        self._next_count = 0.0

    def run(self) -> None:
        """Works for ever; ends with OSError when the server process is gone."""
        while True:
            self._take_inbox()
            self._vitals.step_began = time.monotonic()
            self._expire()
            self._step()
            self._count_cells()
            self._vitals.step_began = None
            events, self._events = self._events, []
            self._channel.send_events(events)

    def _take_inbox(self) -> None:
        """All that came in; waits for something when there is nothing to compute, and then as
        briefly for what comes together with it."""
        if self._scheduler.idle and not self._events:
            self._take_item(self._inbox.get())
            end = time.monotonic() + TOGETHER_S
            with contextlib.suppress(queue.Empty):
                while time.monotonic() < end:
                    self._take_item(self._inbox.get(timeout=TOGETHER_GAP_S))
        with contextlib.suppress(queue.Empty):
            while True:
                self._take_item(self._inbox.get_nowait())

    def _take_item(self, item: Job | Cancel) -> None:
        if isinstance(item, Job):
            self._add(item)
        elif item.id in self._requests:
            self._release(self._requests[item.id])

    def _add(self, job: Job) -> None:
        running = _Running(job, {})
        for sequence in job.sequences:
            self._n_sequences += 1
            sequence.id = self._n_sequences
            choice = Choice(job.id, len(running.open), sequence, job.submit.stop)
            running.open[sequence.id] = self._choices[sequence.id] = choice
        self._requests[job.id] = running
        self._scheduler.add(*job.sequences)

    def _expire(self) -> None:
        now = time.monotonic()
        for running in [r for r in self._requests.values() if r.job.deadline <= now]:
            if running.first_token:
                for choice in list(running.open.values()):
                    self._finish_choice(running, choice, "length", timed_out=True)
            else:
                self._fail(running, "timeout", "the deadline passed before the first token")

    def _step(self) -> None:
        plan = self._scheduler.schedule()
        if plan is None:
            return
        began = time.monotonic()
        try:
            plan = self._start(plan)
            outputs = self._runner.step(plan)
        except NativeError as error:
            log.error("a step failed: %s", error)
            self._runner.clear()
            self._scheduler.drop_all()
            for running in list(self._requests.values()):
                self._fail(running, "engine_error", str(error))
            return
        tokens = [[output.token for output in some] for some in outputs]
        self._vitals.step_ended = time.monotonic()
        self._scheduler.commit(plan, tokens, self._vitals.step_ended - began)
        for work, some in zip(plan.work, outputs, strict=True):
            for output in some:
                choice = self._choices.get(work.sequence.id)
                if choice is None:  # it has ended, or its request failed
                    break
                self._take(self._requests[choice.request], choice, output)

    def _count_cells(self) -> None:
        """Tells how full the KV cache is: counting takes a while, so now and then."""
        now = time.monotonic()
        if now < self._next_count and not self._scheduler.idle:
            return
        self._next_count = now + COUNT_S
        scheduler, vitals = self._scheduler, self._vitals
        vitals.kv_cells_cached = scheduler.n_cells_cached
        vitals.kv_cells_used = scheduler.n_cells - scheduler.n_cells_free - vitals.kv_cells_cached

    def _start(self, plan: Plan) -> Plan:
        """Prepares the sequences that begin with this step; the plan without those whose request
        the native library refuses, which fail alone."""
        now = time.monotonic()
        for sequence in plan.started:
            choice = self._choices.get(sequence.id)
            if choice is None:  # another choice of its request was refused
                continue
            running = self._requests[choice.request]
            running.started = now
            job = running.job
            try:
                self._runner.start(
                    sequence.id,
                    job.sampling(choice.index),
                    sequence.prompt,
                    job.constraints[choice.index] if job.constraints else None,
                    job.submit.top_logprobs,
                )
            except InvalidArgumentError as error:
                self._fail(running, "engine_error", str(error))
        work = [work for work in plan.work if work.sequence.id in self._choices]
        return dataclasses.replace(plan, work=work)

    def _take(self, running: _Running, choice: Choice, output: Output) -> None:
        if not running.first_token:
            running.first_token = time.monotonic()
        choice.tokens.append(output.token)
        if output.failure is not None:
            self._fail(running, SCHEMA_TOO_COMPLEX, output.failure)
            return
        if self._tokenizer.is_end(output.token):
            self._finish_choice(running, choice, "stop")
            return
        visible = output.token in running.job.visible
        name = self._tokenizer.name if visible else self._tokenizer.piece
        self._events += choice.take(name(output.token), output.logprob)
        if choice.stopped or output.complete:
            self._finish_choice(running, choice, "stop")
        elif len(choice.tokens) >= choice.sequence.max_tokens:
            self._finish_choice(running, choice, "length")

    def _finish_choice(
        self, running: _Running, choice: Choice, reason: str, timed_out: bool = False
    ) -> None:
        self._events += choice.finish()
        self._events.append(ChoiceFinished(running.job.id, choice.index, reason, timed_out))
        running.completion_tokens += len(choice.tokens)
        self._remember(running.job, choice)
        self._close(running, choice)
        if running.open:
            return
        sequences = running.job.sequences
        first = sequences[0]
        drafters = [s.drafter for s in sequences if s.drafter is not None]
        n_predicted = sum(drafter.n_predicted for drafter in drafters)
        n_accepted_predicted = sum(drafter.n_accepted_predicted for drafter in drafters)
        self._events.append(
            Finished(
                running.job.id,
                prompt_tokens=len(first.prompt),
                cached_tokens=first.n_cached,
                completion_tokens=running.completion_tokens,
                queued_s=running.started - running.job.arrived,
                prefill_s=running.first_token - running.started,
                decode_s=time.monotonic() - running.first_token,
                drafted_tokens=sum(drafter.n_drafted for drafter in drafters),
                accepted_tokens=sum(drafter.n_accepted for drafter in drafters),
                accepted_prediction_tokens=n_accepted_predicted,
                rejected_prediction_tokens=n_predicted - n_accepted_predicted,
            )
        )
        self._release(running)

    def _remember(self, job: Job, choice: Choice) -> None:
        """Keeps the ids of an answer for its conversation's next turn, if they are its text."""
        before = job.submit.segments[-1]
        ids = choice.tokens
        if ids and self._tokenizer.is_end(ids[-1]):
            ids = ids[:-1]
        pieces = [self._tokenizer.piece(token) for token in ids]
        text = b"".join(pieces).decode("utf-8", "replace")
        if not before.special and all(pieces) and text == choice.text:
            ids = self._tokenizer.encode([before]) + ids
            self._answers.remember(before.text + choice.text, ids)

    def _fail(self, running: _Running, code: str, message: str) -> None:
        self._events.append(RequestFailed(running.job.id, code, message))
        self._release(running)

    def _release(self, running: _Running) -> None:
        for choice in list(running.open.values()):
            self._close(running, choice)
        del self._requests[running.job.id]

    def _close(self, running: _Running, choice: Choice) -> None:
        """Frees a choice's slot, where a failed step has not done that already."""
        sequence = choice.sequence
        if any(sequence is other for other in self._scheduler.sequences()):
            self._scheduler.remove(sequence)
        self._runner.end(sequence.id)
        del running.open[sequence.id], self._choices[sequence.id]
