"""The engine thread, which is the main thread: runs steps on the model and sends events."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import queue
import threading
import time
from collections.abc import Callable

from sheily_native import InvalidArgumentError, NativeError

from ..protocol.channel import Channel
from ..protocol.commands import Cancel, Forget
from ..protocol.events import (
    SCHEMA_TOO_COMPLEX,
    Event,
    Prefilled,
    RequestFailed,
    Started,
)
from .admission import Job
from .choice import Choice
from .disk.tier import Tier
from .grammar.constraint import Grammars
from .grammar.follower import Follower
from .inbox import Inbox, Indexed, Leave, Woken
from .kvcache.answer_ids import AnswerIds
from .runner import Output, Runner
from .running import Running
from .scheduling.drafts import Drafter, Index
from .scheduling.scheduler import Plan, Scheduler, Work
from .tokenizer import Tokenizer
from .vitals import Vitals

log = logging.getLogger(__name__)

COUNT_S = 0.25
TOGETHER_GAP_S = 0.004
TOGETHER_S = 0.02
"""Requests that follow the first one with gaps of at most TOGETHER_GAP_S, within TOGETHER_S, start
in the same step as it. A step takes far longer than that."""
MASK_SHARE = 0.1
LEAST_MASK_S = 0.002
"""A step waits for missing masks for MASK_SHARE of the last step's time, but at least LEAST_MASK_S.
A sequence whose mask comes later is left out."""
STALLED_S = 0.05
"""How long the engine waits for something to compute while everything that runs is held."""
COSTLY_COMPILE_S = 0.02
COSTLY_MASK_S = 0.008
"""A grammar that takes more CPU seconds than COSTLY_COMPILE_S, or than COSTLY_MASK_S for a mask,
gets a low-priority thread from the start."""
MOST_AT_ONCE = 8192
"""Texts of up to this many tokens are indexed between two steps, in at most 1 ms."""


class Engine:
    """The engine thread's loop over schedule, step and commit."""

    def __init__(
        self,
        *,
        channel: Channel,
        tokenizer: Tokenizer,
        runner: Runner,
        scheduler: Scheduler,
        answers: AnswerIds,
        grammars: Grammars | None,
        inbox: Inbox,
        vitals: Vitals,
        root: Callable[[str], bytes] = str.encode,
        tier: Tier | None = None,
    ) -> None:
        """`root` gives the key under which the prompts of a scope share cells."""
        self._channel = channel
        self._tokenizer = tokenizer
        self._runner = runner
        self._scheduler = scheduler
        self._answers = answers
        self._grammars = grammars
        self._inbox = inbox
        self._vitals = vitals
        self._root = root
        self._tier = tier
        self._requests: dict[int, Running] = {}
        self._choices: dict[int, Choice] = {}
        self._followers: dict[int, Follower] = {}
        self._n_sequences = 0
        self._events: list[Event] = []
        self._next_count = 0.0
        self._last_step_s = 0.0
        self._stalled = False
        self._leaving = False

    def run(self) -> None:
        """Works until the server process is gone."""
        while not self._leaving:
            self._take_inbox()
            self._vitals.step_began = time.monotonic()
            self._expire()
            self._follow()
            if self._tier is not None:
                self._tier.work(self._scheduler.streaming)
            self._step()
            for running in list(self._requests.values()):
                self._queue(running)
            self._count_cells()
            self._vitals.step_began = None
            self._send_events()
        self._leave()

    def _leave(self) -> None:
        """Keeps what was computed, also of requests that were running."""
        for running in list(self._requests.values()):
            self._release(running)
        if self._tier is not None:
            self._tier.flush()

    def _send_events(self) -> None:
        events, self._events = self._events, []
        try:
            self._channel.send_events(events)
        except ConnectionError:  # the server process is gone
            self._leaving = True

    def _take_inbox(self) -> None:
        """Takes everything that has arrived. When there is nothing to compute, first waits for an
        item, then briefly for others that come together with it."""
        puts_off = self._tier is not None and self._tier.has_put_off
        if self._scheduler.idle and not self._events and not puts_off:
            self._take_item(self._inbox.get())
            end = time.monotonic() + TOGETHER_S
            with contextlib.suppress(queue.Empty):
                while time.monotonic() < end:
                    self._take_item(self._inbox.get(timeout=TOGETHER_GAP_S))
        elif self._stalled:
            with contextlib.suppress(queue.Empty):
                self._take_item(self._inbox.get(timeout=STALLED_S))
        with contextlib.suppress(queue.Empty):
            while True:
                self._take_item(self._inbox.get_nowait())

    def _take_item(self, item: Job | Cancel | Forget | Indexed | Woken | Leave) -> None:
        if isinstance(item, Job):
            self._add(item)
        elif isinstance(item, Indexed):
            self._draft(item)
        elif isinstance(item, Cancel) and item.id in self._requests:
            self._release(self._requests[item.id])
        elif isinstance(item, Forget) and self._tier is not None:
            self._tier.forget(item.owner)
        elif isinstance(item, Leave):
            self._leaving = True

    def _add(self, job: Job) -> None:
        running = Running(job, {})
        root = self._root(job.submit.cache.scope)
        for sequence in job.sequences:
            self._n_sequences += 1
            sequence.id, sequence.root = self._n_sequences, root
            sequence.deadline = job.submit.deadline
            choice = Choice(
                request=job.id, index=len(running.open), sequence=sequence, stop=job.submit.stop
            )
            running.open[sequence.id] = self._choices[sequence.id] = choice
            running.choices.append(choice)
        running.later += running.choices
        self._requests[job.id] = running
        if self._tier is not None and not job.submit.scores:
            n = job.submit.n
            for i in range(0, len(job.sequences), n):
                self._tier.begin(job.sequences[i : i + n], root)
        self._queue(running)

    def _queue(self, running: Running) -> None:
        """Gives the scheduler as many of a request's choices as there are slots."""
        for choice in running.next(self._scheduler.n_slots):
            sequence = choice.sequence
            if sequence.max_tokens or not sequence.scored:
                self._scheduler.add(sequence)
            else:  # nothing is to be computed
                running.started = running.started or time.monotonic()
                self._events += running.echo(choice, self._tokenizer)
                self._finish_prompt(running, choice)

    def _expire(self) -> None:
        now = time.monotonic()
        for running in [r for r in self._requests.values() if r.job.submit.deadline <= now]:
            if running.first_token and running.scored:
                for choice in list(running.open.values()):
                    self._finish_choice(running, choice, "length", timed_out=True)
            else:
                self._fail_late(running)

    def _follow(self) -> None:
        """Checks which sequences have the mask for their next token. After a short wait, holds
        those that have none, so that no other sequence waits for it."""
        if not self._followers:
            return
        until = time.monotonic() + max(MASK_SHARE * self._last_step_s, LEAST_MASK_S)
        for id, follower in list(self._followers.items()):
            choice = self._choices[id]
            running = self._requests[choice.request]
            choice.sequence.held = not follower.wait(until - time.monotonic())
            if choice.sequence.held:
                continue
            if follower.complete:
                self._finish_choice(running, choice, "stop")
            elif choice.full:
                self._finish_choice(running, choice, "length")
            elif follower.failure is not None:
                self._fail(running, SCHEMA_TOO_COMPLEX, follower.failure)
                return  # the other choices of its request are gone too

    def _step(self) -> None:
        plan = self._scheduler.schedule(time.monotonic())
        self._stalled = plan is None or not plan.work
        if plan is None:
            return
        began = time.monotonic()
        for sequence, computed in plan.set_aside:
            self._keep(self._choices[sequence.id], computed)
        try:
            plan = self._start(plan)
            if self._leaving:
                return
            outputs = self._runner.step(plan)
        except NativeError as error:
            log.error("a step failed: %s", error)
            self._runner.clear()
            self._scheduler.drop_all()
            if self._tier is not None:
                self._tier.forget_all()
            for running in list(self._requests.values()):
                self._fail(running, "engine_error", str(error))
            return
        tokens = [
            [] if work.targets else [output.token for output in some]
            for work, some in zip(plan.work, outputs, strict=True)
        ]
        self._vitals.step_ended = time.monotonic()
        self._last_step_s = self._vitals.step_ended - began
        predicted = [_from_prediction(work) for work in plan.work]
        self._scheduler.commit(plan, tokens, self._last_step_s)
        for work, some, is_predicted in zip(plan.work, outputs, predicted, strict=True):
            self._take_outputs(work, some, is_predicted)

    def _take_outputs(self, work: Work, outputs: list[Output], predicted: bool) -> None:
        choice = self._choices.get(work.sequence.id)
        if work.targets and choice is not None:
            running = self._requests[choice.request]
            self._events.append(running.scores(choice, outputs))
            if choice.sequence.scored and not choice.sequence.max_tokens:
                self._finish_prompt(running, choice)
            return
        if choice is not None:
            choice.drafts.proposed(len(work.drafts), predicted)
            self._tell_progress(choice)
        for i, output in enumerate(outputs):
            choice = self._choices.get(work.sequence.id)
            if choice is None:  # it has ended, or its request failed
                break
            if i < len(outputs) - 1:  # all but the last one were drafted
                choice.drafts.accepted(predicted)
            self._take(self._requests[choice.request], choice, output)

    def _tell_progress(self, choice: Choice) -> None:
        submit, sequence = self._requests[choice.request].job.submit, choice.sequence
        if submit.progress and choice.index == 0 and not choice.tokens:
            event = Prefilled(submit.id, sequence.n_computed, sequence.n_cached)
            self._events.append(event)

    def _finish_prompt(self, running: Running, choice: Choice) -> None:
        """Ends a choice for which no token is generated."""
        if self._begin_answer(running):
            self._finish_choice(running, choice, "length")

    def _begin_answer(self, running: Running) -> bool:
        """Notes when the first token came. One that came after the deadline, at the end of a long
        step, is none: fails the request and returns False."""
        if not running.first_token:
            now = time.monotonic()
            if now >= running.job.submit.deadline:
                self._fail_late(running)
                return False
            running.first_token = now
        return True

    def _count_cells(self) -> None:
        """Reports how full the KV cache is; only now and then, since counting takes a while."""
        now = time.monotonic()
        if now < self._next_count and not self._scheduler.idle:
            return
        self._next_count = now + COUNT_S
        scheduler, vitals = self._scheduler, self._vitals
        vitals.kv_cells_cached = scheduler.n_cells_cached
        vitals.kv_cells_used = scheduler.n_cells - scheduler.n_cells_free - vitals.kv_cells_cached

    def _start(self, plan: Plan) -> Plan:
        """Prepares the sequences that start with this step. Returns the plan without those whose
        request the native library refuses, which fail alone."""
        if not plan.started:
            return plan
        for sequence in plan.started:
            choice = self._choices.get(sequence.id)
            if choice is not None:  # None if another choice of its request was refused
                self._start_choice(self._requests[choice.request], choice)
        self._send_events()  # before the step, in which the engine may die
        work = [work for work in plan.work if work.sequence.id in self._choices]
        return dataclasses.replace(plan, work=work)

    def _start_choice(self, running: Running, choice: Choice) -> None:
        job, sequence = running.job, choice.sequence
        if not running.started:
            running.started = time.monotonic()
            self._index(job)
        if self._tier is not None:
            self._tier.started(sequence)
        follower = self._follower(job)
        try:
            self._runner.start(
                sequence.id,
                sampling=job.sampling(choice.index),
                prompt=sequence.prompt,
                follower=follower,
                top_logprobs=job.submit.top_logprobs,
                scores=job.submit.scores,
            )
        except InvalidArgumentError as error:
            self._fail(running, "engine_error", str(error))
            return
        if follower is not None:
            self._followers[sequence.id] = follower
            follower.start()
        self._events.append(Started(job.id, choice.index))
        self._events += running.echo(choice, self._tokenizer)

    def _follower(self, job: Job) -> Follower | None:
        grammar, cost, grammars = job.submit.grammar, job.cost, self._grammars
        if grammar is None or cost is None or grammars is None or not job.submit.max_tokens:
            return None
        costly = cost.compile_s > COSTLY_COMPILE_S or cost.mask_s > COSTLY_MASK_S
        return Follower(
            functools.partial(grammars.compile, grammar.lark, cost.n_bytes),
            lambda: self._inbox.put(Woken()),
            costly,
        )

    def _index(self, job: Job) -> None:
        """Prepares the texts that drafts come from, long ones on a separate thread."""
        if job.prediction is None:
            return
        if len(job.sequences[0].prompt) + len(job.prediction) <= MOST_AT_ONCE:
            self._draft(_indexed(job))
            return
        threading.Thread(target=self._index_later, args=(job,), name="index", daemon=True).start()

    def _index_later(self, job: Job) -> None:
        try:
            self._inbox.put(_indexed(job))
        except Exception:
            log.exception("a request goes on without drafts")

    def _draft(self, indexed: Indexed) -> None:
        for sequence in indexed.job.sequences:
            if sequence.id in self._choices:
                sequence.drafter = Drafter(indexed.prompt, indexed.prediction, self._tokenizer.ends)
                sequence.drafter.take(sequence.generated)

    def _take(self, running: Running, choice: Choice, output: Output) -> None:
        if not self._begin_answer(running):
            return
        choice.tokens.append(output.token)
        if self._tokenizer.is_end(output.token):
            self._finish_choice(running, choice, "stop")
            return
        visible = output.token in running.job.visible
        name = self._tokenizer.name if visible else self._tokenizer.piece
        self._events += choice.take(name(output.token), output.logprob)
        if choice.stopped:
            self._finish_choice(running, choice, "stop")
        elif choice.full and choice.sequence.id not in self._followers:
            self._finish_choice(running, choice, "length")  # else left to `_follow`

    def _finish_choice(
        self, running: Running, choice: Choice, reason: str, timed_out: bool = False
    ) -> None:
        self._events += choice.finish()
        self._events.append(choice.finished(reason, timed_out))
        running.completion_tokens += len(choice.tokens)
        self._remember(running.job, choice)
        self._close(running, choice)
        if running.open:
            return
        self._events.append(running.finished(time.monotonic()))
        self._release(running)

    def _remember(self, job: Job, choice: Choice) -> None:
        """Keeps an answer's ids for the next turn of its conversation, if they spell its text."""
        if not job.submit.segments:  # no template writes the answer into another prompt
            return
        last = job.submit.segments[-1]
        ids = choice.tokens
        if ids and self._tokenizer.is_end(ids[-1]):
            ids = ids[:-1]
        pieces = [self._tokenizer.piece(token) for token in ids]
        text = b"".join(pieces).decode("utf-8", "replace")
        if not last.special and all(pieces) and text == choice.text:
            prompt = choice.sequence.prompt
            ids = prompt[len(job.before) :] + ids
            text = last.text + choice.text
            choice.note = self._answers.remember(job.submit.scope, job.before, text, ids)

    def _fail_late(self, running: Running) -> None:
        self._fail(running, "timeout", "the deadline passed before the first token")

    def _fail(self, running: Running, code: str, message: str) -> None:
        self._events.append(RequestFailed(running.job.id, code, message))
        self._release(running)

    def _release(self, running: Running) -> None:
        running.later.clear()
        for choice in list(running.open.values()):
            self._close(running, choice)
        del self._requests[running.job.id]

    def _keep(self, choice: Choice, computed: list[int]) -> None:
        """Has written what a choice computed, unless it is to stay in memory."""
        sequence, cache = choice.sequence, self._requests[choice.request].job.submit.cache
        if self._tier is not None and cache.disk and not sequence.scores:
            self._tier.finished(computed, sequence.root, cache.owner, choice.note)

    def _close(self, running: Running, choice: Choice) -> None:
        """Frees a choice's slot."""
        sequence = choice.sequence
        computed = self._scheduler.remove(sequence)
        self._runner.end(sequence.id)
        if self._tier is not None:
            self._tier.ended(sequence)
        self._keep(choice, computed)
        follower = self._followers.pop(sequence.id, None)
        if follower is not None:
            follower.close()
        del running.open[sequence.id], self._choices[sequence.id]


def _from_prediction(work: Work) -> bool:
    drafter = work.sequence.drafter
    return bool(work.drafts) and drafter is not None and drafter.from_prediction


def _indexed(job: Job) -> Indexed:
    return Indexed(job, Index(job.sequences[0].prompt), Index(job.prediction or ()))
