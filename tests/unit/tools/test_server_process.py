"""A server in a process of its own: its log, its readiness, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support.waiting import WAIT, until
from tools.server_process import ServerProcess, ServerProcessError, environment

READY = "import time; print('on port 7', flush=True); time.sleep(600)"
CHILD = (
    "import subprocess, sys, time; "
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "print('child', child.pid, flush=True); time.sleep(600)"
)
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}"
ANSWERS = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = sys.argv[1].encode()
        self.send_response(int(sys.argv[2]))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print("on port", server.server_port, flush=True)
server.serve_forever()
"""


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


def alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_line_of_the_log_is_waited_for_and_the_log_outlives_the_server() -> None:
    with ServerProcess(python(READY)) as server:
        assert server.wait_for_line(r"on port (\d+)", WAIT)[1] == "7"
    assert server.process.returncode == -signal.SIGTERM
    assert server.lines == ["on port 7"]
    assert server.log == "on port 7\n"
    server.kill()  # again, which does nothing


def test_a_server_that_ends_before_is_not_waited_for() -> None:
    server = ServerProcess(python("raise SystemExit('no such model')"))
    with pytest.raises(ServerProcessError, match="did not start"):
        server.wait_for_line("on port", WAIT)
    assert "no such model" in server.log
    assert server.stop() == 1


def test_a_last_line_is_not_missed() -> None:
    with ServerProcess(python("print('on port 7')")) as server:
        until(lambda: server.process.poll() is not None)
        assert server.wait_for_line("on port", WAIT)


def test_a_line_that_does_not_come_is_given_up() -> None:
    with (
        ServerProcess(python(READY)) as server,
        pytest.raises(ServerProcessError, match="did not say within 0 s"),
    ):
        server.wait_for_line("never", 0)


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(ServerProcessError, match="cannot be run: No such file"):
        ServerProcess(["/nowhere/server"])


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ('{"state": "ready"}', "200", ""),
        ("no JSON", "200", ""),
        ('{"state": "loading"}', "503", "was not ready after 1 s"),
        (
            '{"state": "failed", "reason": "the file is damaged"}',
            "503",
            "says: the file is damaged",
        ),
    ],
)
def test_readiness_by_http(body: str, status: str, problem: str) -> None:
    with ServerProcess(python(ANSWERS, body, status)) as server:
        port = int(server.wait_for_line(r"on port (\d+)", WAIT)[1])
        expected = pytest.raises(ServerProcessError, match=problem) if problem else nullcontext()
        with expected:
            seconds = 1 if "after" in problem else WAIT
            server.wait_until_ready("127.0.0.1", port, "/health", seconds)


def test_a_server_that_does_not_hear_is_killed() -> None:
    server = ServerProcess(python(DEAF))
    server.wait_for_line("on port", WAIT)
    with pytest.raises(subprocess.TimeoutExpired):
        server.stop(0.1)
    assert server.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("own_session", [True, False])
def test_a_session_of_its_own_ends_with_all_that_is_in_it(own_session: bool) -> None:
    with ServerProcess(python(CHILD), own_session=own_session) as server:
        child = int(server.wait_for_line(r"child (\d+)", WAIT)[1])
        assert server.pids == [server.process.pid, child]
    if own_session:
        until(lambda: not alive(child))
    else:
        assert alive(child)
        os.kill(child, signal.SIGKILL)


def test_variables_that_would_be_settings_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PORT", "1")
    monkeypatch.setenv("LLAMA_ARG_PORT", "1")
    assert "LLM_PORT" not in environment("LLM_")
    assert "LLAMA_ARG_PORT" in environment("LLM_")
    assert "LLAMA_ARG_PORT" not in environment("LLM_", "LLAMA_ARG_")
