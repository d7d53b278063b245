"""Ctrl-C that ends what is being done, once."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from sheily_server.client.interrupts import Interrupts


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interrupts = Interrupts()
        interrupts.install()
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_is_heard_where_it_is_wanted(interrupts: Interrupts) -> None:
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    with interrupts.heard():
        pass
    signal.raise_signal(signal.SIGINT)


def test_a_second_one_does_not_disturb_what_tidies_up(interrupts: Interrupts) -> None:
    tidy: list[str] = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            tidy.append("all of it")

    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        work()
    assert tidy == ["all of it"]
