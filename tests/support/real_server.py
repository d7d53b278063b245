"""The server as a user starts it: a process of its own, with its log and its port."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from typing import Any

from sheily_server.client import LLMClient
from tests.support.waiting import WAIT, until
from tools.server_process import ServerProcess, children, environment


class RealServer(ServerProcess):
    """`python -m sheily_server` on a free port; settings are given without `LLM_`.

    `address_space` limits the memory of both processes, in bytes.
    """

    def __init__(self, model: Path, address_space: int | None = None, **settings: object) -> None:
        variables = {"LLM_MODEL_PATH": str(model), "LLM_PORT": "0"}
        variables |= {f"LLM_{name.upper()}": str(value) for name, value in settings.items()}
        super().__init__(
            [sys.executable, "-m", "sheily_server"],
            env=environment("LLM_") | variables,
            address_space=address_space,
        )
        try:
            self.url = self.wait_for_line(r"listening on (\S+)", WAIT)[1]
        except BaseException:  # or it would outlive the test
            print(self.log, file=sys.stderr)
            self.kill()
            raise
        self.client = LLMClient(self.url)

    def health(self) -> dict[str, Any]:
        return self.client.health_check()

    def connection(self, seconds: float) -> http.client.HTTPConnection:
        """One that waits so long for each part of an answer."""
        return http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=seconds)

    def wait_for_state(self, state: str, seconds: float = WAIT) -> None:
        until(lambda: self.health()["state"] == state, seconds, f"for {state}: {self.log}")

    def engine_pid(self) -> int:
        """The process id of the engine, the server's only child."""
        [pid] = children(self.process.pid)
        return pid
