"""The engine's own loop with a model that is a stand-in: what Python takes of a step."""

from __future__ import annotations

import math
import queue
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from sheily_server.engine.admission import Job
from sheily_server.engine.grammar.follower import Follower
from sheily_server.engine.inbox import Inbox
from sheily_server.engine.kvcache.answer_ids import AnswerIds
from sheily_server.engine.runner import Output, Runner
from sheily_server.engine.scheduling.scheduler import Plan, Scheduler
from sheily_server.engine.scheduling.sequence import TokenSequence
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.engine.vitals import Vitals
from sheily_server.engine.worker import Engine
from sheily_server.protocol.channel import Channel
from sheily_server.protocol.commands import Sampling, Submit


class EnoughError(Exception):
    """A runner raises it when it has seen the steps that it wanted."""


def run_engine(
    events: socket.socket,
    tokenizer: Tokenizer,
    runner: Runner,
    scheduler: Scheduler,
    jobs: Iterable[Job],
) -> None:
    """Runs the engine's loop on these jobs until the runner raises EnoughError. What it sends goes
    to `events`."""
    inbox: Inbox = queue.SimpleQueue()
    for job in jobs:
        inbox.put(job)
    engine = Engine(
        channel=Channel(events),
        tokenizer=tokenizer,
        runner=runner,
        scheduler=scheduler,
        answers=AnswerIds(1000),
        grammars=None,
        inbox=inbox,
        vitals=Vitals(),
    )
    with suppress(EnoughError):
        engine.run()


def engine_python_s(n_sequences: int, n_steps: int = 2000) -> float:
    """Seconds of Python in one step of the engine, beside the call of `Context.step`.

    The real loop, scheduler, text decoding and messages; a stand-in for model and tokenizer.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        runner = _StandInRunner(ours, n_steps)
        scheduler = Scheduler(
            n_slots=n_sequences, context_size=n_steps + 20, n_sequences=n_sequences
        )
        jobs = [_job(i, n_steps + 10) for i in range(n_sequences)]
        run_engine(theirs, _StandInTokenizer(), runner, scheduler, jobs)
    return (runner.last - runner.first) / n_steps


class _StandInTokenizer(Tokenizer):
    def __init__(self) -> None:
        self.ends = frozenset()

    def piece(self, token: int) -> bytes:
        return b" word"

    def is_end(self, token: int) -> bool:
        return False


class _StandInRunner(Runner):
    """Gives tokens at once, of which none comes twice, and takes the events out of the socket."""

    def __init__(self, events: socket.socket, n_steps: int) -> None:
        self._received = events
        self._received.setblocking(False)
        self._left = n_steps
        self.first = self.last = 0.0

    def start(
        self,
        id: int,
        *,
        sampling: Sampling,
        prompt: Sequence[int],
        follower: Follower | None,
        top_logprobs: int | None,
        scores: bool = False,
    ) -> None:
        pass

    def step(self, plan: Plan) -> list[list[Output]]:
        if any(not work.sequence.decoding for work in plan.work):
            return [[Output(7)] if work.samples else [] for work in plan.work]
        if self.first:
            self._received.recv(1 << 16)
        self.last = time.monotonic()
        self.first = self.first or self.last
        if not self._left:
            raise EnoughError
        self._left -= 1
        return [[Output(self._left)]] * len(plan.work)


def _job(id: int, n_tokens: int) -> Job:
    submit = Submit(
        id=id,
        segments=[],
        sampling=Sampling(),
        max_tokens=n_tokens,
        stop=[],
        deadline=math.inf,
    )
    return Job(submit=submit, sequences=[TokenSequence(0, [1, 2, 3], n_tokens)], prediction=())
