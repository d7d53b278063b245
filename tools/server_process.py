"""A server in a process of its own, from its start to its end; knows no server in particular."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

_LINE_POLL_S, _HEALTH_POLL_S = 0.02, 0.1
STOP_S = 100.0
_PROBE_S = 10.0

ServerT = TypeVar("ServerT", bound="ServerProcess")


class ServerProcessError(Exception):
    """The server did not start, or says that it cannot serve; the message goes on behind its name:
    "did not start"."""


def environment(*prefixes: str) -> dict[str, str]:
    """The variables of this process, without those whose names begin so: they would be settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def children(pid: int) -> list[int]:
    """The processes that any thread of a process has started and that are not gone. Linux alone."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """All processes that came of one. Linux alone."""
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


class ServerProcess:
    """A running server and its log, which is what it writes to its two outputs.

    Standard input is empty. The log goes to a file, so that nobody has to read it for the server
    to go on. Ends with the `with` block.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stderr: int | None = None,
        address_space: int | None = None,
        own_session: bool = False,
    ) -> None:
        """Returns once the process is there, which says nothing of its readiness.

        `stderr` is a descriptor that takes the errors away from the log. `address_space` limits the
        memory, in bytes, of the process and of those that it starts. With `own_session` a Ctrl-C on
        the terminal does not reach the server, and whatever it leaves behind ends with it.

        Raises ServerProcessError when the command cannot be run.
        """
        self._own_session = own_session
        self._log: IO[bytes] | None = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - kill() closes
        self._last_log = ""
        try:
            self.process = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT if stderr is None else stderr,
                start_new_session=own_session,
            )
        except OSError as error:
            self._log.close()
            raise ServerProcessError(f"cannot be run: {error.strerror}") from error
        if address_space is not None:  # inherited by what it starts, which takes longer than this
            limits = (address_space, address_space)
            resource.prlimit(self.process.pid, resource.RLIMIT_AS, limits)

    @property
    def log(self) -> str:
        """What the server has written so far; after its end, all of it."""
        if self._log is None:
            return self._last_log
        # Read in place: where the file stands is where the server writes.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode("utf-8", "replace")

    @property
    def lines(self) -> list[str]:
        """The lines of the log that are whole."""
        return self.log.split("\n")[:-1]

    @property
    def pids(self) -> list[int]:
        """The process and all that came of it. Linux alone."""
        return [self.process.pid, *descendants(self.process.pid)]

    def wait_for_line(self, pattern: str, seconds: float) -> re.Match[str]:
        """Waits until a whole line of the log has the pattern; the first match.

        Raises ServerProcessError when the process ends before, or when the time is over.
        """
        end = time.monotonic() + seconds
        while True:
            ended = self.process.poll() is not None  # looked at first, or a last line is missed
            for line in self.lines:
                if found := re.search(pattern, line):
                    return found
            if ended:
                raise ServerProcessError("did not start")
            if time.monotonic() > end:
                raise ServerProcessError(f"did not say within {seconds:.0f} s that it listens")
            time.sleep(_LINE_POLL_S)

    def wait_until_ready(self, host: str, port: int, path: str, seconds: float) -> None:
        """Waits until GET `path` is answered with 200.

        Raises ServerProcessError when the process ends before, when the answer is a JSON object
        with the state "failed", or when the time is over.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise ServerProcessError("did not start")
            if _is_ready(host, port, path):
                return
            time.sleep(_HEALTH_POLL_S)
        raise ServerProcessError(f"was not ready after {seconds:.0f} s")

    def stop(self, seconds: float = STOP_S) -> int:
        """Sends SIGTERM, and SIGKILL after that many seconds; the exit code, negative for a signal.

        Raises subprocess.TimeoutExpired when SIGKILL was needed.
        """
        self.process.send_signal(signal.SIGTERM)  # nothing happens where it has ended
        try:
            return self.process.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the process at once, and with a session of its own what it left behind."""
        if self._log is None:
            return
        self.process.kill()
        if self._own_session:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._last_log = self.log
        self._log.close()
        self._log = None

    def __enter__(self: ServerT) -> ServerT:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


def _is_ready(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    with contextlib.suppress(ValueError, AttributeError):
        health = json.loads(body)
        if health.get("state") == "failed":
            raise ServerProcessError(f"says: {health['reason']}")
    return response.status == 200
