"""Ctrl-C that ends what is being done, once."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from sheily_server.client.interrupts import Interrupts

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interrupts = Interrupts()
        interrupts.install()
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_leave(interrupts: Interrupts, number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as caught:
        signal.raise_signal(number)
    assert caught.value.code == 128 + number
