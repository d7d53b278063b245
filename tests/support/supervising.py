"""Supervisors over fake engines, in this process, and what tests ask of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from sheily_server.backend.supervisor import Supervisor
from sheily_server.backend.tickets import Ticket
from sheily_server.config import Config
from sheily_server.errors import ServiceError
from sheily_server.protocol.commands import Sampling, Segment, Submit
from sheily_server.protocol.events import (
    LAST_EVENTS,
    RequestEvent,
)
from tests.support import fake_engine
from tests.support.models import EMPTY_GGUF
from tests.support.waiting import until


class Bench:
    """Supervisors over fake engines, and what these wrote into their log."""

    def __init__(self, folder: Path) -> None:
        self.model = folder / "fake.gguf"
        self.model.write_bytes(EMPTY_GGUF)
        self.log = folder / "engine.log"
        self.gate = folder / "gate"
        self.config = Config(model_path=self.model, parallel=2, queue=1, context_size=128)
        self.loads: list[float] = []
        self.show: Callable[[float], None] = self.loads.append
        self._started: list[Supervisor] = []

    def command(self, *arguments: str) -> list[str]:
        return [*fake_engine.COMMAND, "--log", str(self.log), *arguments]

    def start(self, *arguments: str, **settings: Any) -> Supervisor:
        return self.start_command(self.command(*arguments), **settings)

    def start_command(self, command: list[str], **settings: Any) -> Supervisor:
        config = replace(self.config, **settings)
        supervisor = Supervisor(config, self.show, command)
        supervisor.start()
        self._started.append(supervisor)
        return supervisor

    def ready(self, *arguments: str, **settings: Any) -> Supervisor:
        supervisor = self.start(*arguments, **settings)
        wait_for(supervisor, "ready")
        return supervisor

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def logged(self, beginning: str) -> list[str]:
        """The log's lines that begin so, once there is one."""
        return list(until(lambda: [x for x in self.lines() if x.startswith(beginning)]))

    def pids(self) -> list[int]:
        """The engines that were started, in order."""
        return [int(line.split()[1]) for line in self.logged("start ")]

    def stop(self) -> None:
        for supervisor in self._started:
            supervisor.stop()


def wait_for(supervisor: Supervisor, state: str) -> None:
    until(lambda: supervisor.health().state == state)


def in_flight(supervisor: Supervisor) -> int:
    health = supervisor.health()
    return health.running + health.queued


def wait_for_restart(supervisor: Supervisor, count: int) -> None:
    until(lambda: supervisor.health().restarts == count)
    wait_for(supervisor, "ready")


def request(text: str, **fields: Any) -> Submit:
    segments = [Segment("<|im_start|>", True), Segment(f"user\n{text}", False)]
    plain = Submit(
        id=0,
        segments=segments,
        sampling=Sampling(),
        max_tokens=64,
        stop=[],
        deadline=100.0,
    )
    return msgspec.structs.replace(plain, **fields)


def events(ticket: Ticket) -> list[RequestEvent]:
    """All of a ticket's events, to its last."""
    found: list[RequestEvent] = []
    while not found or not isinstance(found[-1], LAST_EVENTS):
        found.append(cast(RequestEvent, until(lambda: ticket.next(0.01))))
    return found


def error_of(ticket: Ticket) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        events(ticket)
    return caught.value


def refused(supervisor: Supervisor) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        supervisor.submit(request("hi"))
    with pytest.raises(ServiceError):
        supervisor.engine()
    return caught.value


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
