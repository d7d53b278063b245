"""One chat turn: who asked, and how far its answers are. Knows no dialect and no engine process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..backend.tickets import Ticket
from ..clients import Client
from ..protocol.events import Finished
from ..templates.base import CallSyntax, Offer


class ClientGoneError(Exception):
    """Nobody waits for the answer any more. Its slot is free again."""


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """The `seconds` from a request's arrival to its deadline, and the setting that says so."""

    seconds: float
    setting: str = "LLM_TIMEOUT"


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller: whether they are `gone`, when their request `arrived` (time.monotonic()), and the
    `scope` of their key, empty without one. `client` is who they are among those who share the
    server; its last part, the user, comes with the body. `time` is what their request may take in
    all; None is what every request may."""

    gone: Callable[[], bool]
    arrived: float
    scope: str = ""
    client: Client = ()
    time: TimeLimit | None = None


@dataclass(slots=True, kw_only=True)
class Turn:
    """A chat turn in the engine. `finished` is set once `pieces` has ended by itself. `created` is
    in Unix seconds, `began` in time.monotonic() seconds. `bound`: the answer follows a grammar.

    Four fields say where the answer differs from what was asked. `dropped_messages` are not in the
    prompt, `clamped` maps fields to the values that were used, `ignored` fields have no effect, and
    `relaxed` parts of schemas are not followed.
    """

    model: str
    fingerprint: str
    dropped_messages: int
    clamped: dict[str, int]
    ignored: Sequence[str]
    relaxed: Sequence[str]
    began: float
    ticket: Ticket
    n: int
    offer: Offer
    syntax: CallSyntax | None = None
    bound: bool = False
    prompt_tokens: int = 0
    progress: bool = False
    queue_place: int | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    first_token_s: float | None = None
    timed_out: bool = False
    n_tokens: dict[int, int] = field(default_factory=dict)
    finish_reasons: dict[int, str] = field(default_factory=dict)
    finished: Finished | None = None

    def tokens_per_second(self) -> float | None:
        """Returns the answers' tokens per second after their first tokens; None without any."""
        done = self.done()
        return rate(done.completion_tokens - self.n, done.decode_s)

    def done(self) -> Finished:
        """Returns what the engine reported at the end. Raises RuntimeError before that."""
        if self.finished is None:
            raise RuntimeError("the turn has not finished")
        return self.finished


def rate(count: int, seconds: float) -> float | None:
    """Returns the rate per second, to hundredths; None if there is nothing to count or to time."""
    return round(count / seconds, 2) if count > 0 and seconds > 0 else None
