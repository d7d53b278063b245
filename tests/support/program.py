"""`python -m sheily_server` over the fake engine, as a process of its own."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.models import EMPTY_GGUF, ROOT
from tests.support.serving import Endpoint, engine_command
from tests.support.waiting import WAIT, until
from tools.server_process import ServerProcess, environment

# The program as it is, but for the command that starts the engine, and for names such as a+b that
# have the addresses of both.
PROGRAM = """
import functools, json, socket, sys
import sheily_server.__main__ as program
look_up = socket.getaddrinfo

def both(host, *rest, **more):
    return [found for name in host.split("+") for found in look_up(name, *rest, **more)]

socket.getaddrinfo = both
command = json.loads(sys.argv[1])
program.Supervisor = functools.partial(program.Supervisor, command=command)
sys.exit(program.main(sys.argv[2:]))
"""


class Program(Endpoint, ServerProcess):
    """The server with a fake engine. `stderr` takes the log away from it, as a descriptor."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        stderr: int | None = None,
        program: str = PROGRAM,
        wrapper: Sequence[str] = (),
        **variables: str,
    ) -> None:
        self.model = folder / "fake-model.gguf"
        self.model.write_bytes(EMPTY_GGUF)
        engine_log = folder / "engine.log"
        variables = {"PYTHONPATH": str(ROOT), "LLM_MODEL_PATH": str(self.model)} | variables
        engine = json.dumps(engine_command(engine_log))
        Endpoint.__init__(self, 0, engine_log)
        ServerProcess.__init__(
            self,
            [*wrapper, sys.executable, "-c", program, engine, *arguments],
            env=environment("LLM_") | variables,
            cwd=folder,
            stderr=stderr,
        )

    def listening(self, state: str = "ready") -> Program:
        """Waits until the server has its port, and is in that state."""
        self.port = int(self.wait_for_line(r"listening on http://127\.0\.0\.1:(\d+)", WAIT)[1])
        self.wait_for(state)
        return self

    def ended(self) -> int:
        """The exit code, once there is one."""
        return self.process.wait(WAIT)

    def request_lines(self, count: int) -> list[str]:
        """The log's lines on requests, without the time, once there are that many."""

        def lines() -> list[str] | None:
            found = re.findall(r"INFO (req_[0-9a-f]{16} .*)$", self.log, re.MULTILINE)
            return found if len(found) >= count else None

        return until(lines)
