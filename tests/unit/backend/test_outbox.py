"""Commands wait for the engine on one thread, and whoever gives them does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from sheily_server.backend.outbox import Outbox
from sheily_server.protocol.channel import Channel, encode_command
from sheily_server.protocol.commands import Cancel, Detokenize
from tests.support.waiting import WAIT, until

FULL = 20_000_000
"""Bytes that no socket takes at once."""


class Bench:
    """An outbox, and the engine's end of its socket, from which nothing is read by itself."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.channel, self.engine = Channel(ours), Channel(theirs)
        self.broken: list[str] = []
        self.outbox = Outbox(self.channel, self.broken.append)

    def put(self, id: int, size: int = 1) -> None:
        self.outbox.put(id, encode_command(Detokenize(id, [2**20] * (size // 5))))

    def fill(self, id: int) -> None:
        """A command for whose writing the thread waits."""
        self.put(id, FULL)
        until(lambda: self.outbox._writing == id)

    def received(self, n: int) -> list[int]:
        """Ids of the next commands; those of Cancels are negative."""
        found = []
        for _ in range(n):
            command = self.engine.receive_command()
            assert isinstance(command, Detokenize | Cancel)
            found.append(-command.id if isinstance(command, Cancel) else command.id)
        return found

    def close(self) -> None:
        self.outbox.close()
        self.channel.close()
        self.engine.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_commands_are_written_in_their_order(bench: Bench) -> None:
    for id in range(1, 51):
        bench.put(id)
    assert bench.received(50) == list(range(1, 51))
    assert not bench.outbox.cancel(50)
    assert bench.received(1) == [-50]


def test_what_was_not_written_is_taken_back(bench: Bench) -> None:
    bench.fill(1)
    for id in (2, 3, 4):
        bench.put(id)
    assert bench.outbox.cancel(3)
    assert not bench.outbox.cancel(1)  # a part of it is written
    assert bench.outbox.unwritten() == {1, 2, 4}  # the engine cannot read a part of a command
    assert bench.received(4) == [1, -1, 2, 4]
    until(lambda: not bench.outbox.unwritten())


def test_closing_ends_the_thread_and_keeps_what_was_not_written(bench: Bench) -> None:
    bench.fill(1)
    bench.put(2)
    bench.outbox.close()
    bench.put(3)
    assert not bench.outbox.cancel(1)
    bench.channel.close()
    bench.outbox._thread.join(WAIT)
    assert not bench.outbox._thread.is_alive()
    assert bench.outbox.unwritten() == {1, 2, 3}
    assert bench.outbox.cancel(3)
    assert bench.broken == []


def test_an_engine_that_is_gone_ends_the_thread(bench: Bench) -> None:
    bench.engine.close()
    bench.put(1)
    bench.outbox._thread.join(WAIT)
    assert not bench.outbox._thread.is_alive()
    assert bench.outbox.unwritten() == {1}
    assert bench.broken == []


def test_an_error_nobody_expects_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(frame: bytes) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(bench.channel, "send_frame", send)
    bench.put(1)
    bench.outbox._thread.join(WAIT)
    assert bench.broken == ["could not be written to: RuntimeError('no such luck')"]


def test_nobody_waits_for_an_engine_that_does_not_read(bench: Bench) -> None:
    bench.fill(1)

    def use(ids: range) -> None:
        for id in ids:
            bench.put(id, FULL // 10)
        for id in ids:
            bench.outbox.cancel(id)

    users = [
        threading.Thread(target=use, args=(range(10 * i, 10 * i + 5),), daemon=True)
        for i in range(1, 5)
    ]
    for user in users:
        user.start()
    for user in users:
        user.join(WAIT)
        assert not user.is_alive()
    assert bench.outbox.unwritten() == {1}
