"""`python -m sheily_server.client` as a process: on a terminal, in a pipe, stopped and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Serve
from tests.support.models import ROOT
from tests.support.serving import Server
from tests.support.terminal import CTRL_C, CTRL_D, Terminal
from tests.support.waiting import WAIT

pytestmark = pytest.mark.http

CLIENT = (sys.executable, "-m", "sheily_server.client")


@pytest.fixture
def terminal(server: Server) -> Iterator[Terminal]:
    with Terminal([*CLIENT, "chat", "--url", server.url]) as opened:
        opened.wait_for("fake-model is ready; /help shows the commands")
        opened.wait_for("> ")
        yield opened


def asked(show: str) -> tuple[dict[str, Any], str]:
    """The command that the engine got, and its prompt, from the answer to `show`."""
    found: dict[str, Any] = json.loads(show[show.index("{") : show.rindex("}") + 1])
    return found, "".join(text for text, _ in found["segments"])


def run(
    *arguments: str | bytes, input: bytes = b"", variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    environment = {k: v for k, v in os.environ.items() if k not in ("LLM_URL", "LLM_API_KEY")}
    return subprocess.run(
        [*CLIENT, *arguments],
        input=input,
        capture_output=True,
        timeout=WAIT,
        check=False,
        env=environment | {"PYTHONPATH": str(ROOT)} | (variables or {}),
    )


# on a terminal


def test_a_talk(terminal: Terminal) -> None:
    terminal.type("one two\n")
    assert "one two\r\n" in terminal.wait_for("> ").split("\r\n", 1)[1]
    terminal.type("first \\\n")
    terminal.wait_for(". ")
    terminal.type("second\n")
    assert "first \r\nsecond\r\n" in terminal.wait_for("> ")
    terminal.type("/help\n")
    terminal.wait_for("/reset")
    terminal.wait_for("> ")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(server: Server, terminal: Terminal) -> None:
    n_cancelled = len(server.engine_lines("cancel"))
    terminal.type("slow 1000000 0.002\n")
    terminal.wait_for("w3 ")
    terminal.type(CTRL_C)
    assert "\x1b[2mstopped\x1b[0m" in terminal.wait_for("> ")
    server.wait_for_engine("cancel", n_cancelled + 1)
    terminal.type("show\n")
    _, prompt = asked(terminal.wait_for("> "))
    assert "slow 1000000 0.002" in prompt
    assert "w0 w1 w2 w3" in prompt
    terminal.type("/exit\n")
    assert terminal.ended() == 0


def test_ctrl_c_before_the_first_word(serve: Serve) -> None:
    server = serve(parallel=1)
    server.wait_for("ready")
    with Terminal([*CLIENT, "chat", "--url", server.url]) as terminal:
        terminal.wait_for("> ")
        terminal.type("hang\n")
        server.wait_for_engine("submit")
        terminal.type(CTRL_C)
        terminal.wait_for("stopped; the question is not kept, since nothing was answered")
        server.wait_for_engine("cancel")
        terminal.wait_for("> ")
        terminal.type("next\n")
        assert "next\r\n" in terminal.wait_for("> ").split("\r\n", 1)[1]


def test_ctrl_c_at_the_prompt_says_how_to_leave(terminal: Terminal) -> None:
    for _ in range(2):
        terminal.type("half a line")
        terminal.interrupt("Ctrl-C stops an answer; /exit or Ctrl-D leaves")
        terminal.wait_for("> ")
    terminal.type("begun \\\n")
    terminal.wait_for(". ")
    terminal.interrupt("leaves")
    terminal.wait_for("> ")
    terminal.type("two\n")
    assert "begun" not in terminal.wait_for("> ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it(terminal: Terminal, number: signal.Signals) -> None:
    terminal.process.send_signal(number)
    assert terminal.ended() == 128 + number
    assert "Traceback" not in terminal.text


def test_an_answer_cannot_control_the_terminal(terminal: Terminal) -> None:
    terminal.type("/system x\n")
    terminal.wait_for("> ")
    # The shell of the line editor would take an escape for itself: a quoted insert lets it through.
    terminal.type("a\x16\x1b[31mb\x16\x07c\n")
    told = terminal.wait_for("\r\n")
    told = terminal.wait_for("> ")
    assert "a\\x1b[31mb\\x07c\r\n" in told


def test_colours_only_where_they_are_wanted(server: Server) -> None:
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with Terminal([*CLIENT, "chat", "--url", server.url], **variables) as terminal:
            assert "\x1b[2m" not in terminal.wait_for("is ready")
    with Terminal([*CLIENT, "chat", "--url", server.url]) as terminal:
        assert "\x1b[2m" in terminal.wait_for("is ready")


def test_a_server_that_loads(serve: Serve, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = serve("--gate", str(gate))
    server.wait_for("loading")
    with Terminal([*CLIENT, "chat", "--url", server.url]) as terminal:
        terminal.wait_for("the server is loading")
        terminal.wait_for("> ")
        terminal.type("one\n")
        terminal.wait_for("error: ")
        assert "(ask again when the model is there)" in terminal.wait_for("> ")
        gate.touch()
        server.wait_for("ready")
        terminal.type("two\n")
        assert "two\r\n" in terminal.wait_for("> ").split("\r\n", 1)[1]


def test_a_server_that_is_not_there_yet() -> None:
    with Terminal([*CLIENT, "chat", "--url", "http://127.0.0.1:1"]) as terminal:
        terminal.wait_for("cannot connect")
        terminal.wait_for("LLM_URL or --url names the server")
        terminal.wait_for("> ")
        terminal.type("hi\n")
        terminal.wait_for("error: cannot connect")
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.ended() == 0


# in a pipe


def test_piped_questions_are_answered_one_by_one(server: Server) -> None:
    done = run("chat", "--url", server.url, input="one two\n\n/reset\nñ 🙂".encode())
    assert done.returncode == 0
    assert done.stdout.decode() == "one two\nñ 🙂\n"
    assert done.stderr.decode() == "the conversation is forgotten\n"


def test_a_piped_question_that_fails(server: Server) -> None:
    done = run("chat", "--url", server.url, input=b"one\nfail engine_error\n/nothing\ntwo\n")
    assert done.returncode == 1
    assert done.stdout == b"one\ntwo\n"
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("error: ")
    assert "engine_error" in first
    assert second == "error: there is no command /nothing; /help shows all"


def test_bytes_that_are_no_utf_8_are_replaced_and_told(server: Server) -> None:
    done = run("chat", "--url", server.url, input=b"caf\xe9 x\n")
    assert (done.returncode, done.stdout.decode()) == (0, "caf\ufffd x\n")
    assert b"what is not UTF-8 in the question was replaced by U+FFFD" in done.stderr
    assert run("ask", "--url", server.url, b"caf\xe9").stdout.decode() == "caf\ufffd\n"


def test_what_the_server_says_of_an_answer(server: Server) -> None:
    done = run("chat", "--url", server.url, "--max-tokens", "100000", input=b"timed-out\n")
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("[")
    assert "max_tokens was lowered to " in line
    assert "cut short by the server's LLM_TIMEOUT" in line
    done = run("ask", "--url", server.url, "--max-tokens", "2", "slow 5 0")
    assert done.returncode == 0
    assert "limit of tokens" in done.stderr.decode()


def test_a_reader_who_leaves(server: Server) -> None:
    command = [*CLIENT, "ask", "--url", server.url, "slow 1000000 0.002"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.read(3) == b"w0 "
        program.stdout.close()
        assert program.wait(WAIT) == 141
        assert program.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_output_that_is_full(server: Server) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*CLIENT, "ask", "--url", server.url, "hi"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=WAIT,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 1
    assert done.stderr == b"error: the output cannot be written: No space left on device\n"


# one question, and the server's state


def test_one_question(server: Server, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Niño.", encoding="utf-8")
    done = run("ask", "one", "--file", str(text), variables={"LLM_URL": server.url})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "one\n\nNiño.\n"
    done = run("ask", "--url", server.url, "one", "--file", "-", input=b"two\x1b[0m")
    assert done.stdout == b"one\n\ntwo\x1b[0m\n"
    shown = run("ask", "--url", server.url, "--system", "Be.", "--temperature", "0", "show")
    command, prompt = asked(shown.stdout.decode())
    assert command["sampling"]["temperature"] == 0
    assert "Be." in prompt


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "3", "x"], "temperature"),
        (["--model", "gpt-4o", "x"], "without --model the server's own model answers"),
        (["x", "--file", "/none"], "/none cannot be read"),
        (["x", "--file", "/dev/zero"], "it has more than 4 MiB"),
    ],
)
def test_a_question_that_fails(server: Server, arguments: Sequence[str], words: str) -> None:
    done = run("ask", "--url", server.url, *arguments)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_key(serve: Serve) -> None:
    server = serve(api_key=("k1", "k2"))
    server.wait_for("ready")
    done = run("ask", "--url", server.url, "hi")
    assert done.returncode == 1
    assert "give a key in LLM_API_KEY, or with --key" in done.stderr.decode()
    assert run("ask", "--url", server.url, "hi", "--key", "k2").stdout == b"hi\n"
    again = run("ask", "--url", server.url, "hi", variables={"LLM_API_KEY": "k1, k2"})
    assert again.stdout == b"hi\n"


def test_the_server_s_state(serve: Serve, server: Server) -> None:
    done = run("health", "--url", server.url)
    assert done.returncode == 0
    assert "state: ready\n" in done.stdout.decode()
    missing = serve(missing=True)
    missing.wait_for("failed")
    done = run("health", "--url", missing.url)
    assert done.returncode == 1
    assert "state: failed\n" in done.stdout.decode()
    assert run("health", "--url", "http://127.0.0.1:1").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["talk"],
        ["chat", "--nothing"],
        ["ask"],
        ["ask", "x", "--temperature", "nan"],
        ["chat", "--url", "here"],
    ],
)
def test_unusable_arguments(arguments: Sequence[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"usage: python -m sheily_server.client" in done.stderr
