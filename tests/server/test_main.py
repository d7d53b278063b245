"""`python -m sheily_server` as a process: its start, its log, its signals, its end."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheily_server.__main__ import TOGETHER_S, Signals
from sheily_server.client import LLMClient
from tests.server.conftest import Start
from tests.support import tuned_files
from tests.support.models import ROOT
from tests.support.processes import heaps_of_threads
from tests.support.program import PROGRAM, Program
from tests.support.serving import completion, read_to_end, read_until
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http


def gone(pid: int) -> bool:
    """Whether a process has ended, be it unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_flags_and_variables(start: Start) -> None:
    program = start("--port=0", "--context-size", "512", LLM_PORT="1", LLM_PARALLEL="3")
    health = program.listening().health()
    assert (health["context_size"], health["parallel"]) == (512, 3)
    assert health["model_path"] == str(program.model)
    assert program.complete("hi").status == 200


def test_flags_variables_and_a_tuned_file(start: Start, tmp_path: Path) -> None:
    tuned = tuned_files.write(tmp_path / "t.json", cpu="This CPU")
    program = start("--port=0", "--threads=1", LLM_TUNED=str(tuned), LLM_CHUNK="64").listening()
    told = json.loads(program.engine_lines("start ")[0].split(maxsplit=2)[2])
    names = ("threads", "chunk", "kernel", "kv_type")
    assert [told[name] for name in names] == [1, 64, "avx2", "q8_0"]
    assert told["tuned"] == {
        "path": str(tuned),
        "cpu": "This CPU",
        "model": "a-model.gguf",
        "settings": {"kernel": "avx2", "kv_type": "q8_0"},
        "otherwise": {"kernel": "auto", "kv_type": "f16"},
    }


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--port", "x"], {}, "--port is 'x', not a whole number."),
        ([], {"LLM_CONTEXT_SIZE": "1"}, "LLM_CONTEXT_SIZE is 1, not in 64 to 1048576."),
        (["--cors-origins", "me"], {}, "--cors-origins has 'me'"),
        (["--tuned", "/none.json"], {}, "--tuned is '/none.json', which is not a file."),
    ],
)
def test_a_bad_setting_ends_the_program_with_one_sentence(
    start: Start, arguments: list[str], variables: dict[str, str], words: str
) -> None:
    program = start(*arguments, **variables)
    assert program.ended() == 2
    (line,) = program.log.splitlines()
    assert line.startswith(f"sheily_server: {words}")


def test_a_port_in_use_ends_the_program_with_one_sentence(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = start("--port", str(port))
        taken.accept()[0].close()
        assert program.ended() == 1
    (line,) = program.log.splitlines()
    assert line.startswith(
        f"sheily_server: LLM_PORT is {port}, which is in use on 127.0.0.1: by another program."
    )
    assert not program.engine_lines("start")


def test_a_second_server_says_that_the_first_has_the_port(start: Start, program: Program) -> None:
    second = start("--port", str(program.port))
    assert second.ended() == 1
    (line,) = second.log.splitlines()
    assert "by another server of SHEILY, with the model 'fake-model'. Stop that one" in line


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "which is not an address of this machine."),
        ("no.such.host.invalid", "which is neither an address nor a name that can be looked up."),
    ],
)
def test_a_host_that_is_not_there_ends_the_program_with_one_sentence(
    start: Start, host: str, words: str
) -> None:
    program = start("--port", "0", "--host", host)
    assert program.ended() == 1
    warning, line = program.log.splitlines()
    assert "no API key is set" in warning
    assert line == f"sheily_server: LLM_HOST is {host!r}, {words}"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LLM_MODEL_PATH", "folder", "/folder', a folder, not a file; there is a.gguf in it."),
        ("LLM_STORE", "none/x.db", "/none/x.db', which is in a folder that does not exist"),
        ("LLM_STORE", "folder", "/folder', which is a folder, not a file."),
        ("LLM_API_KEY_FILE", "none", "/none', which is not a file."),
        ("LLM_TUNED", "folder", "/folder', which is not a file."),
    ],
)
def test_a_path_that_cannot_be_used_stops_the_start_and_names_its_variable(
    start: Start, tmp_path: Path, name: str, value: str, words: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.gguf").touch()
    program = start("--port=0", **{name: str(tmp_path / value)})
    assert program.ended() == 2
    (line,) = program.log.splitlines()
    assert line.startswith(f"sheily_server: {name} is '{tmp_path}")
    assert words in line
    assert not program.engine_lines("start")


def test_a_host_with_two_addresses(start: Start) -> None:
    """As localhost has them on most machines."""
    program = start("--port=0", "--host", "127.0.0.1+127.0.0.2").listening()
    assert "listening on http://127.0.0.2:" in program.log
    assert program.complete("hi").status == 200


def test_unknown_variables_are_warned_of(start: Start) -> None:
    program = start("--port=0", LLM_MODELPATH="x").listening()
    assert "WARNING LLM_MODELPATH is not a setting" in program.log
    assert "did you mean LLM_MODEL_PATH?" in program.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_both_processes(start: Start, number: signal.Signals) -> None:
    program = start("--port=0").listening()
    engine = program.engine_pid()
    program.process.send_signal(number)
    assert program.ended() == 0
    assert gone(engine)
    assert "Traceback" not in program.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_was_admitted_end(start: Start, number: signal.Signals) -> None:
    program = start("--port=0").listening()
    engine = program.engine_pid()
    with program.opened("slow 10 0.05", stream=True) as streamed:
        read_until(streamed, b"w0 ")
        program.process.send_signal(number)
        health = program.wait_for("draining")
        assert health["status"] == "unavailable"
        refused = program.complete("hi")
        assert (refused.status, refused.error()["code"]) == (503, "shutting_down")
        assert int(refused.headers["retry-after"]) > 0
        rest = read_to_end(streamed)
    assert b"w9 " in rest
    assert b"[DONE]" in rest
    assert program.ended() == 0
    assert gone(engine)


def log_lines(program: Program, after: str) -> list[str]:
    """The log without its times, from the line with those words on."""
    lines = [line.split(" ", 2)[2] for line in program.log.splitlines()]
    return lines[next(i for i, line in enumerate(lines) if after in line) :]


def test_a_second_signal_does_not_wait(start: Start) -> None:
    """And what the log says of both is true."""
    program = start("--port=0").listening()
    with program.opened("hang-late", stream=True) as streamed:
        read_until(streamed, b"once")
        program.process.terminate()
        program.wait_for("draining")
        first = (
            "INFO told to stop: 1 request may end within 30 s (LLM_DRAIN_TIMEOUT); a second Ctrl-C "
            "or SIGTERM ends them at once"
        )
        until(lambda: first in program.log)
        time.sleep(TOGETHER_S)
        program.process.terminate()
        assert b"shutting_down" in read_to_end(streamed)
    assert program.ended() == 0
    told = [line for line in log_lines(program, "told to stop") if "req_" not in line]
    assert told == [first, "WARNING told to stop again: ending 1 request now", "INFO stopped"]


def test_two_signals_that_come_together_are_one() -> None:
    """As where a program passes on the Ctrl-C that the terminal has sent to both."""
    times = [0.0]
    signals = Signals(lambda: times[0])
    signals.came()
    for now in (0.0, 0.01, TOGETHER_S - 0.01):
        times[0] = now
        signals.came()
        assert signals.first.is_set()
        assert not signals.second.is_set()
    times[0] = TOGETHER_S
    signals.came()
    assert signals.second.is_set()


def test_a_signal_while_nothing_runs_promises_nothing(start: Start) -> None:
    program = start("--port=0").listening()
    program.process.terminate()
    assert program.ended() == 0
    told = log_lines(program, "told to stop")
    assert told == ["INFO told to stop: no requests are running", "INFO stopped"]


def test_a_signal_that_another_thread_gets_is_heard(start: Start) -> None:
    """The system chooses the thread, and the one that runs handlers sleeps."""
    script = PROGRAM.replace(
        "sys.exit(",
        "import signal, threading\n"
        "check = program.App._check_caller\n"
        "def told(app, request):\n"
        "    if request.path == '/stop':\n"
        "        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
        "    return check(app, request)\n"
        "program.App._check_caller = told\n"
        "sys.exit(",
    )
    program = start("--port=0", program=script).listening()
    assert program.get("/stop").status == 404
    assert program.ended() == 0
    assert log_lines(program, "told to stop")[-1] == "INFO stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_whatever_the_first_thread_holds(
    start: Start, number: signal.Signals
) -> None:
    """As when the engine is started again, and the machine is so busy that the first thread comes
    to rest in the middle of its wait, with the lock of what it waits for."""
    script = PROGRAM.replace(
        "sys.exit(",
        "import signal\n"
        "class Signals(program.Signals):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        wait = self.first.wait\n"
        "        def held(*seconds):\n"
        "            with self.first._cond:\n"
        f"                signal.raise_signal({int(number)})\n"
        "            return wait(*seconds)\n"
        "        self.first.wait = held\n"
        "program.Signals = Signals\n"
        "sys.exit(",
    )
    program = start("--port=0", program=script)
    assert program.ended() == 0
    assert log_lines(program, "told to stop")[-1] == "INFO stopped"


def test_an_interrupt_in_the_middle_of_the_start_is_one_line(start: Start) -> None:
    script = PROGRAM.replace(
        "sys.exit(",
        "def interrupted(*_, **__):\n"
        "    raise KeyboardInterrupt\n"
        "program.open_store = interrupted\n"
        "sys.exit(",
    )
    program = start("--port=0", program=script)
    assert program.ended() == 130
    (line,) = program.log.splitlines()
    assert line.endswith(" INFO told to stop before the start was complete")


def test_requests_that_do_not_end_in_time_are_ended(start: Start) -> None:
    program = start("--port=0", "--drain-timeout=0.3").listening()
    engine = program.engine_pid()
    with program.opened("hang-late", stream=True) as streamed, program.opened("hang") as waiting:
        read_until(streamed, b"once")
        program.wait_for_engine("submit", 2)
        program.process.terminate()
        assert program.ended() == 0
        assert gone(engine)
        rest = read_to_end(streamed)
        assert b"[DONE]" not in rest
        assert b"shutting_down" in rest
        assert b"shutting_down" in read_to_end(waiting)
    assert "WARNING 2 requests did not end within 0.3 s (LLM_DRAIN_TIMEOUT): ending" in program.log


def test_the_engine_ends_when_its_server_is_killed(start: Start) -> None:
    program = start("--port=0").listening()
    engine = program.engine_pid()
    with program.opened("slow 1000000 0.01", stream=True) as connection:
        read_until(connection, b"w1 ")
        program.process.kill()
        program.ended()
        until(lambda: gone(engine))


def test_the_engine_killed_from_outside_in_the_middle_of_a_stream(start: Start) -> None:
    program = start("--port=0").listening()
    engine = program.engine_pid()
    with program.opened("slow 1000000 0.01", stream=True) as connection:
        read_until(connection, b"w1 ")
        os.kill(engine, signal.SIGKILL)
        rest = read_to_end(connection)
    assert b"engine_crashed" in rest
    assert b"[DONE]" not in rest
    program.wait_for("ready")
    assert program.complete("next").status == 200
    assert program.engine_pid() != engine


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("order", ["hang-early", "hang-late", "slow 1000000 0.01"])
def test_a_client_that_goes_away(program: Program, order: str, stream: bool) -> None:
    n_submits, n_cancels = (len(program.engine_lines(word)) for word in ("submit", "cancel"))
    with program.opened(order, stream=stream):
        program.wait_for_engine("submit", n_submits + 1)
    program.wait_for_engine("cancel", n_cancels + 1)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A process that tests share."""
    program = Program(tmp_path_factory.mktemp("program"), "--port=0")
    try:
        yield program.listening()
    finally:
        program.stop()


def test_the_log_of_requests(start: Start) -> None:
    program = start("--port=0").listening()
    answer = program.complete("one two three")
    program.complete("one two", stream=True)
    program.simple(message="one")
    program.complete("x", temperature=9)
    program.complete("too-long 300 1")
    program.complete("fail engine_error", stream=True)
    program.get("/health")
    with program.opened("hang"):
        program.wait_for_engine("submit", 6)
    lines = program.request_lines(7)
    n_prompt = answer.json()["usage"]["prompt_tokens"]
    assert lines[0].startswith(answer.headers["x-request-id"])
    assert f" prompt={n_prompt} " in lines[0]
    counts = r"prompt=\d+ cached=1 completion=%d finish=stop first_token=\d\.\d{3}s%s"
    speed = r" speed=\d+\.\d\dtok/s"
    expected = [
        "200 " + counts % (3, speed),
        "200 " + counts % (2, speed),
        "200 " + counts % (1, ""),
        r"400 \(invalid_value\)",
        r"400 \(context_length_exceeded\)",
        r"500 prompt=\d+ \(engine_error\)",
        r"499 \(client gone\)",
    ]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(f"req_[0-9a-f]{{16}} {pattern}", line), line
    program.process.terminate()
    assert program.ended() == 0
    assert "Client disconnected" not in program.log  # the HTTP library's line on the same, no id


@pytest.fixture
def port() -> int:
    """One that was free just now, for a server that cannot say which it has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def answering(program: Program, port: int) -> Program:
    """Waits for a server whose log nobody reads."""
    program.port = port

    def ready() -> bool:
        try:
            return bool(program.health()["state"] == "ready")
        except OSError:
            assert program.process.poll() is None
            return False

    until(ready)
    return program


def test_a_log_that_nobody_reads_stops_nothing(start: Start, port: int) -> None:
    """A pipe has room for a few hundred lines."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        program = answering(start(f"--port={port}", stderr=writer), port)
        for _ in range(200):
            assert program.complete("x", temperature=9).status == 400
        assert program.complete("one two").status == 200
        program.process.terminate()
        assert program.ended() == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_a_log_that_breaks_stops_nothing(start: Start, port: int) -> None:
    reader, writer = os.pipe()
    program = start(f"--port={port}", stderr=writer)
    os.close(writer)
    os.close(reader)
    answering(program, port)
    assert program.complete("x", temperature=9).status == 400
    assert program.complete("one two").status == 200
    program.process.terminate()
    assert program.ended() == 0


def test_standard_descriptors_that_are_closed(start: Start, port: int) -> None:
    """None of them becomes a connection to which the log is written."""
    wrapper = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    program = answering(start(f"--port={port}", wrapper=wrapper), port)
    assert program.complete("one two").status == 200
    folder = Path(f"/proc/{program.process.pid}/fd")
    assert [os.readlink(folder / str(fd)) for fd in range(3)] == ["/dev/null"] * 3
    program.process.terminate()
    assert program.ended() == 0


def test_no_path_can_forge_a_line_of_the_log(start: Start) -> None:
    """Of a client that has left when it is answered, waitress logs the path as it was asked for."""
    script = PROGRAM.replace(
        "sys.exit(",
        "import time\n"
        "call = program.App.__call__\n"
        "def late(app, environ, start_response):\n"
        "    gone = environ['waitress.client_disconnected']\n"
        "    while 'forged' in environ['PATH_INFO'] and not gone():\n"
        "        time.sleep(0.01)\n"
        "    return call(app, environ, start_response)\n"
        "program.App.__call__ = late\n"
        "sys.exit(",
    )
    program = start("--port=0", "--log-level=debug", program=script).listening()
    body = json.dumps(completion("slow 1000000 0.001", stream=True))
    path = "/v1/chat/completions%0a2026-01-01%20CRITICAL%20forged%1b%5b2J%e2%80%a8/.."
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", program.port)) as connection:
            connection.sendall((head + body).encode())
    program.complete("x", temperature=9)
    program.request_lines(1)
    until(lambda: "forged" in program.log)
    program.process.terminate()
    assert program.ended() == 0
    for line in program.log.splitlines():
        assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ |  \| ", line), line
    assert "\x1b" not in program.log


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("MemoryError('no room left')", "no room left"),
        ("SystemExit(0)", "the HTTP server ended by itself"),
    ],
)
def test_the_end_of_the_http_server_is_a_failure(start: Start, how: str, words: str) -> None:
    """Whoever starts the server again when it fails has to see it."""
    script = PROGRAM.replace(
        "sys.exit(",
        "create = program.http_server.create\n"
        "def failing(app, config):\n"
        "    server = create(app, config)\n"
        "    def run():\n"
        f"        raise {how}\n"
        "    server.asyncore = type('', (), {'loop': staticmethod(lambda **_: run())})\n"
        "    return server\n"
        "program.http_server.create = failing\n"
        "sys.exit(",
    )
    program = start("--port=0", program=script)
    assert program.ended() == 1
    assert words in program.log
    assert " CRITICAL the HTTP server ended by " in program.log


JOURNAL = PROGRAM.replace(
    "sys.exit(",
    "import os\n"
    "found = os.fstat(2)\n"
    "os.environ['JOURNAL_STREAM'] = f'{found.st_dev}:{found.st_ino}'\n"
    "def fail(*_):\n"
    "    raise KeyError('a mistake')\n"
    "program.App._check_caller, check = (\n"
    "    lambda app, request: fail() if request.path == '/fail' else check(app, request),\n"
    "    program.App._check_caller,\n"
    ")\n"
    "sys.exit(",
)
"""The program under systemd, whose route /fail has a mistake."""


def test_under_systemd_each_line_has_the_priority_of_its_level(start: Start) -> None:
    program = start("--port=0", program=JOURNAL, LLM_MODELPATH="x").listening()
    assert program.get("/fail").status == 500
    assert program.complete("exit 3 its last words").status == 503
    program.wait_for("ready")
    program.complete("one two")
    program.process.terminate()
    assert program.ended() == 0
    found: dict[str, list[str]] = {}
    for line in program.log.splitlines():
        marked = re.fullmatch(r"<([2-7])>(.*)", line)
        assert marked, line
        found.setdefault(marked[1], []).append(marked[2])
    for priority, words in (
        ("6", "listening on"),
        ("6", " 200 prompt="),
        ("4", "LLM_MODELPATH is not a setting"),
        ("3", "ERROR engine: its last words"),
        ("3", "  | KeyError: 'a mistake'"),
    ):
        assert any(words in line for line in found[priority]), (words, program.log)
    assert all(" INFO " in line for line in found["6"])


def test_a_sentence_that_ends_the_start_has_a_priority_too(start: Start) -> None:
    program = start("--port=0", "--chunk=0", program=JOURNAL)
    assert program.ended() == 2
    assert program.log.startswith("<3>sheily_server: --chunk is 0")


def test_the_log_as_json(start: Start) -> None:
    program = start(
        "--port=0", program=JOURNAL.replace("JOURNAL_STREAM", "NOTHING"), LLM_LOG_FORMAT="json"
    ).listening()
    assert program.get("/fail").status == 500
    answer = program.complete("one two three")
    program.complete("x", temperature=9)
    assert program.complete("exit 3 its last words").status == 503
    program.process.terminate()
    assert program.ended() == 0
    objects = [json.loads(line) for line in program.log.splitlines()]
    for one in objects:
        assert one.keys() >= {"time", "level", "logger", "message"}
    requests = [one for one in objects if "request_id" in one]
    assert requests[0]["request_id"] == answer.headers["x-request-id"]
    assert requests[0]["message"].startswith(f"{requests[0]['request_id']} 200 prompt=")
    assert requests[0]["completion_tokens"] == 3
    assert requests[0]["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert requests[0]["finish_reasons"] == ["stop"]
    assert requests[0]["first_token_s"] >= 0
    assert (requests[1]["status"], requests[1]["detail"]) == (400, "invalid_value")
    (failed,) = [one for one in objects if "traceback" in one]
    assert failed["traceback"].endswith("KeyError: 'a mistake'")
    assert {"level": "error", "message": "engine: its last words"}.items() <= next(
        one for one in objects if "last words" in one["message"]
    ).items()


def test_a_bad_setting_as_json(start: Start) -> None:
    program = start("--port=0", "--chunk=0", LLM_LOG_FORMAT="json")
    assert program.ended() == 2
    assert json.loads(program.log)["message"].startswith("--chunk is 0")


def test_the_log_has_no_words_of_a_conversation(start: Start) -> None:
    program = start("--port=0", "--log-level=debug").listening()
    program.complete("secretword", user="secretuser")
    program.complete("secretword", stream=True)
    program.complete("secretword", temperature=9)
    program.request_lines(3)
    assert "secret" not in program.log


def test_the_log_names_the_page(start: Start) -> None:
    program = start("--port=0").listening()
    line = f"in a browser: {program.url}/; for a page to chat, dashboard"
    assert line in program.log
    assert program.get("/", Accept="text/html").body.startswith(b"<!doctype html>")
    everywhere = start("--port=0", "--host=0.0.0.0", LLM_API_KEY="a-secret-key")
    assert everywhere.wait_for_line(r"in a browser: http://localhost:(\d+)/", WAIT)
    without = start("--port=0", "--page=off").listening()
    assert "in a browser" not in without.log


def test_a_missing_model_at_the_default_path(tmp_path: Path, start: Start) -> None:
    program = start("--port=0", LLM_MODEL_PATH="models/none.gguf")
    reason = program.listening("failed").health()["reason"]
    assert str(tmp_path / "models" / "none.gguf") in reason
    until(lambda: all(line in program.log for line in reason.splitlines()))
    assert program.complete("hi").status == 500
    program.process.terminate()
    assert program.ended() == 0


def test_our_client_with_the_program(program: Program) -> None:
    with LLMClient(program.url) as client:
        assert client.chat("one two").text == "one two"


def test_the_server_process_loads_no_native_code() -> None:
    script = (
        "import sys, sheily_server.__main__\n"
        "print([m for m in sys.modules if m.startswith(('sheily_native', 'numpy', '_cffi'))])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heaps of glibc")
def test_no_thread_has_a_heap_of_its_own(program: Program) -> None:
    for _ in range(3):
        assert program.complete("hi").status == 200
    assert heaps_of_threads(program.process.pid) == 0


_HEAPS = """
import ctypes, os, threading
from tests.support.processes import heaps_of_threads
from sheily_server.heap import use_one_heap
use_one_heap()
libc = ctypes.CDLL(None)
gate = threading.Barrier(9)

def allocate():
    libc.malloc(1000)
    gate.wait()
    gate.wait()

for _ in range(8):
    threading.Thread(target=allocate).start()
gate.wait()
libc.malloc_stats()
print(heaps_of_threads(os.getpid()))
gate.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heaps of glibc")
@pytest.mark.parametrize(("variables", "one"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_threads_share_one_heap(variables: dict[str, str], one: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", _HEAPS]
    done = subprocess.run(
        command, env=environment | variables, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stderr.count("Arena ") == 1) == one, done.stderr
    assert (int(done.stdout) == 0) == one


_BLOCKS = """
import ctypes
from sheily_server.heap import give_back_large_blocks

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.mallinfo2.restype = Info
give_back_large_blocks()
libc.free(libc.malloc(30 << 20))
before = libc.mallinfo2().hblks
libc.malloc(2 << 20)
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap of glibc")
@pytest.mark.parametrize(
    ("variables", "apart"), [({}, "1"), ({"MALLOC_MMAP_THRESHOLD_": str(16 << 20)}, "0")]
)
def test_a_large_block_is_the_system_s_when_it_is_free(
    variables: dict[str, str], apart: str
) -> None:
    """Though a larger one was freed before."""
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("this glibc does not tell")
    environment = {k: v for k, v in os.environ.items() if k != "MALLOC_MMAP_THRESHOLD_"}
    command = [sys.executable, "-c", _BLOCKS]
    done = subprocess.run(
        command, env=environment | variables, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == apart
