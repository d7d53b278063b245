"""The scenarios of `benchmarks.serve --against`: what a server or a pair of them is asked in
each, and the figures that come of it. Knows nothing of who else is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any

import msgspec

from benchmarks.common.report import BenchmarkError
from benchmarks.serve.client import Address, Ask, Message, Stream, ask_all, user
from benchmarks.serve.report import (
    CLIENTS_8,
    COPY_HEAVY,
    FOUR_TURNS,
    LONG_BESIDE_STREAMS,
    LONG_PROMPT,
    MIXED,
    NO_REPETITION,
    PREDICTION,
    SHARED_SYSTEM,
    SINGLE,
    Answer,
    Figures,
    beside,
    figures,
    in_turn,
)
from benchmarks.serve.texts import Plan, Visit

FEW_TOKENS = 4
CLIENT_TOKENS = 16
STREAM_TOKENS = 1024
STREAM_ARRIVALS = 12
"""Times that text came to each stream before the long prompt is sent, and after its answer."""
THINK_S = 1.0
"""Between an answer and the next message of a visit."""
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Subject:
    """A server that is ready, and what it is asked. `extra` are fields for each request to it;
    `visits` are those of the mixed scenario."""

    address: Address
    extra: Mapping[str, Any]
    plan: Plan
    tokens: int
    long_answer: int
    context_size: int
    visits: Sequence[Visit] = ()

    def ask(self, text: str, n_tokens: int, **fields: Any) -> Answer:
        """One answer to one message. Raises BenchmarkError, as all of this module do."""
        (answer,) = self.ask_all([Ask([user(text)], n_tokens, fields)])
        return answer

    def ask_all(self, asks: Sequence[Ask]) -> list[Answer]:
        return ask_all(self.address, asks, self.extra)

    def converse(self, turns: Sequence[str], n_tokens: int, think_s: float = 0.0) -> list[Answer]:
        """The answers to messages that follow each other, each behind all that was said before."""
        history: list[Message] = []
        answers: list[Answer] = []
        for turn in turns:
            if answers:
                time.sleep(think_s)
            history.append(user(turn))
            (answer,) = self.ask_all([Ask(list(history), n_tokens)])
            answers.append(answer)
            history.append({"role": "assistant", "content": answer.text})
        return answers


@dataclass(frozen=True, slots=True)
class Pair:
    """A server with speculation and one without, both ready, and asked in turn, so that a machine
    which changes its speed is the same for both as nearly as can be."""

    on: Subject
    off: Subject
    off_first: bool

    def ask(self, text: str, n_tokens: int, **fields: Any) -> tuple[Answer, Answer]:
        """The answers of both to the same, that with speculation first in the result."""
        if self.off_first:
            off = self.off.ask(text, n_tokens, **fields)
            return self.on.ask(text, n_tokens, **fields), off
        on = self.on.ask(text, n_tokens, **fields)
        return on, self.off.ask(text, n_tokens, **fields)


def single(subject: Subject) -> Figures:
    return figures([subject.ask(subject.plan.single, subject.tokens)])


def long_prompt(subject: Subject) -> Figures:
    return figures([subject.ask(subject.plan.long_prompt, FEW_TOKENS)])


def four_turns(subject: Subject) -> Figures:
    answers = subject.converse(subject.plan.turns, subject.tokens)
    firsts = [answer.first_s for answer in answers]
    return msgspec.structs.replace(figures(answers), turn_first_s=firsts)


def many_clients(subject: Subject) -> Figures:
    asks = [Ask([user(text)], CLIENT_TOKENS) for text in subject.plan.clients]
    return figures(subject.ask_all(asks))


def shared_system(subject: Subject) -> Figures:
    system = {"role": "system", "content": subject.plan.system}
    asks = [Ask([system, user(text)], CLIENT_TOKENS) for text in subject.plan.questions]
    return figures(subject.ask_all(asks))


def copy_heavy(subject: Subject) -> Figures:
    return figures([subject.ask(subject.plan.copies[0], subject.long_answer)])


def prediction(subject: Subject) -> Figures:
    """For a server whose speculation cannot be switched."""
    text = subject.plan.predicted[0]
    plain = subject.ask(text, subject.long_answer)
    return _predicted([plain], [_predict(subject, text, plain)])


def copy_heavy_in_pair(pair: Pair) -> tuple[Figures, Figures]:
    """As all of a pair: the figures with speculation, and those without."""
    texts = pair.on.plan.copies
    return _couples([pair.ask(text, pair.on.long_answer) for text in texts])


def prediction_in_pair(pair: Pair) -> tuple[Figures, Figures]:
    plain: list[Answer] = []
    off: list[Answer] = []
    answers: list[Answer] = []
    for text in pair.on.plan.predicted:
        on, other = pair.ask(text, pair.on.long_answer)
        plain.append(on)
        off.append(other)
        answers.append(_predict(pair.on, text, on))
    return _predicted(plain, answers), in_turn(off)


def no_repetition_in_pair(pair: Pair) -> tuple[Figures, Figures]:
    """One after the other, so that the rate is that of a lone stream."""
    texts = pair.on.plan.random_answers
    return _couples(
        [
            pair.ask(text, pair.on.long_answer, temperature=1, seed=seed)
            for seed, text in enumerate(texts, 1)
        ]
    )


def _couples(couples: Sequence[tuple[Answer, Answer]]) -> tuple[Figures, Figures]:
    return in_turn([on for on, _ in couples]), in_turn([off for _, off in couples])


def _predict(subject: Subject, text: str, answer: Answer) -> Answer:
    """The same answer, predicted."""
    expected = {"type": "content", "content": answer.text}
    return subject.ask(text, subject.long_answer, prediction=expected)


def _predicted(plain: Sequence[Answer], answers: Sequence[Answer]) -> Figures:
    rates = [answer.decode_rate for answer in plain]
    known = [rate for rate in rates if rate is not None]
    return msgspec.structs.replace(
        in_turn(answers), plain_per_s=median(known) if known else None, plain_rates=rates
    )


def mixed(subject: Subject) -> Figures:
    began = time.monotonic()
    visitors = []
    for visit in subject.visits:
        time.sleep(max(0.0, began + visit.at_s - time.monotonic()))
        visitors.append(_Visitor(subject, visit))
    return figures([answer for visitor in visitors for answer in visitor.result()])


def long_beside_streams(subject: Subject) -> Figures:
    n_tokens = min(STREAM_TOKENS, subject.context_size // 2)
    asks = [Ask([user(text)], n_tokens) for text in subject.plan.streams]
    streams = [Stream(subject.address, ask, subject.extra) for ask in asks]
    while any(stream.n_arrivals < STREAM_ARRIVALS for stream in streams):
        if not all(stream.is_alive() for stream in streams):
            for stream in streams:
                stream.stop()
            for stream in streams:
                stream.result()  # which may say why
            raise BenchmarkError("a stream ended before all of them ran")
        time.sleep(_POLL_S)
    long = subject.ask(subject.plan.very_long_prompt, FEW_TOKENS)
    enough = [stream.n_arrivals + STREAM_ARRIVALS for stream in streams]
    while any(
        stream.is_alive() and stream.n_arrivals < n
        for stream, n in zip(streams, enough, strict=True)
    ):
        time.sleep(_POLL_S)
    for stream in streams:
        stream.stop()
    return beside([stream.result() for stream in streams], long)


RUN: Mapping[str, Callable[[Subject], Figures]] = MappingProxyType(
    {
        SINGLE: single,
        LONG_PROMPT: long_prompt,
        FOUR_TURNS: four_turns,
        CLIENTS_8: many_clients,
        SHARED_SYSTEM: shared_system,
        COPY_HEAVY: copy_heavy,
        PREDICTION: prediction,
        MIXED: mixed,
        LONG_BESIDE_STREAMS: long_beside_streams,
    }
)
RUN_PAIR: Mapping[str, Callable[[Pair], tuple[Figures, Figures]]] = MappingProxyType(
    {
        COPY_HEAVY: copy_heavy_in_pair,
        PREDICTION: prediction_in_pair,
        NO_REPETITION: no_repetition_in_pair,
    }
)
"""What our server with speculation on and off is asked: the figures of both."""


class _Visitor(threading.Thread):
    """Daemonic, so that an interrupted benchmark need not wait for it."""

    def __init__(self, subject: Subject, visit: Visit) -> None:
        super().__init__(daemon=True)
        self._subject = subject
        self._visit = visit
        self._answers: list[Answer] = []
        self._error: BenchmarkError | None = None
        self.start()

    def run(self) -> None:
        visit = self._visit
        try:
            self._answers = self._subject.converse(visit.turns, visit.n_tokens, THINK_S)
        except BenchmarkError as error:
            self._error = error

    def result(self) -> list[Answer]:
        """Waits for the end. Raises BenchmarkError."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._answers
