"""The server as a user starts it: a process of its own, with its log and its port."""

from __future__ import annotations

import http.client
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from sheily_server.client import LLMClient

PATIENCE_S = 100.0
"""How long is waited for what has to come, be the machine never so busy."""


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE_S, what: str = "") -> None:
    """Returns as soon as the condition holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain {what}")
        time.sleep(0.02)


class RealServer:
    """`python -m sheily_server` on a free port; settings are given without `LLM_`.

    `address_space` limits the memory of both processes, in bytes.
    """

    def __init__(self, model: Path, address_space: int | None = None, **settings: object) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LLM_")}
        environment["LLM_MODEL_PATH"] = str(model)
        environment["LLM_PORT"] = "0"
        environment |= {f"LLM_{name.upper()}": str(value) for name, value in settings.items()}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sheily_server"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        if address_space is not None:  # inherited by the engine, which is not there yet
            resource.prlimit(self.process.pid, resource.RLIMIT_AS, (address_space, address_space))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            wait_for(lambda: bool(self._match(r"listening on (\S+)")), what=self.log)
        except BaseException:  # or it would outlive the test
            self.stop()
            raise
        self.url = self._match(r"listening on (\S+)")
        self.client = LLMClient(self.url)

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def health(self) -> dict[str, Any]:
        return self.client.health_check()

    def connection(self, seconds: float) -> http.client.HTTPConnection:
        """One that waits so long for each part of an answer."""
        return http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=seconds)

    def wait_for_state(self, state: str, seconds: float = PATIENCE_S) -> None:
        wait_for(lambda: self.health()["state"] == state, seconds, f"for {state}: {self.log}")

    def engine_pid(self) -> int:
        """The process id of the engine, the server's only child."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        [pid] = [int(pid) for path in children for pid in path.read_text().split()]
        return pid

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()

    def __enter__(self) -> RealServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _match(self, pattern: str) -> str:
        found = re.search(pattern, self.log)
        return found.group(1) if found else ""

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
