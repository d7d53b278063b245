"""A process that takes orders as JSON lines and answers each with one: both of its ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from benchmarks.common.models import ROOT
from benchmarks.common.report import BenchmarkError

_END_S = 10


class Reply(Protocol):
    """An answer, which may be an error."""

    @property
    def error(self) -> str: ...


ReplyT = TypeVar("ReplyT", bound=Reply)
ChildT = TypeVar("ChildT", bound="Child[Any]")


class Child(Generic[ReplyT]):
    """The parent's handle: starts the process, gives orders, ends it with the `with` block."""

    def __init__(self, name: str, command: Sequence[str], kind: type[ReplyT]) -> None:
        """`kind` is what every answer is."""
        self.name = name
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._replies = msgspec.json.Decoder(kind)

    @property
    def pid(self) -> int:
        return self._process.pid

    def order(self, order: msgspec.Struct) -> ReplyT:
        """Raises BenchmarkError when it cannot be done, or the process died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise BenchmarkError(f"the process of {self.name} died{self._how()}")
        try:
            reply = self._replies.decode(line)
        except msgspec.MsgspecError:
            raise BenchmarkError(f"{self.name} answered {line[:200]!r}") from None
        if reply.error:
            raise BenchmarkError(f"{self.name} failed: {reply.error}")
        return reply

    def close(self) -> None:
        """Ends the process: it leaves when its input ends, and is killed 10 s later."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except BaseException as problem:
            self._process.kill()
            self._process.wait()
            if not isinstance(problem, subprocess.TimeoutExpired):
                raise
        finally:
            self._process.stdout.close()

    def __enter__(self: ChildT) -> ChildT:
        return self

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if error is not None:
            self._process.kill()  # it may be in the middle of an order
        self.close()

    def _how(self) -> str:
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return ""
        return f", killed by signal {-status}" if status < 0 else f" with status {status}"


def answer_orders(
    kind: Any, obey: Callable[[Any], msgspec.Struct], failed: Callable[[str], msgspec.Struct]
) -> None:
    """The child: one reply for each order of this kind, until its input is closed. What `obey`
    raises becomes a reply by `failed`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on the terminal is for the parent
    orders = msgspec.json.Decoder(kind)
    for line in sys.stdin.buffer:
        order = orders.decode(line)
        try:
            reply = obey(order)
        except Exception as problem:
            reply = failed(f"{type(problem).__name__}: {problem}")
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()
