"""`python -m sheily_server.client`: talk, ask one question, or see how the server is."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from .client import URL, LLMClient
from .conversation import Conversation
from .errors import LLMError
from .interrupts import Interrupts, terminal
from .screen import Screen, harmless
from .talk import Talk, explained

PROGRAM = "python -m sheily_server.client"
MOST_BYTES = 4 * 1024 * 1024
"""Most of a file that is read: the server takes no larger body."""


def main(arguments: Sequence[str] | None = None, *, program: str = PROGRAM) -> int:
    """Returns the exit code: 0, 1 for a failure, 2 for unusable arguments, 130 for Ctrl-C."""
    _open_standard_streams()
    parser, _ = _parsers(program)
    options = parser.parse_args(arguments)
    try:
        client = LLMClient(options.url, api_key=options.key)
    except ValueError as error:
        parser.error(str(error))
    run: Callable[[LLMClient, argparse.Namespace], int] = options.run
    with client:
        try:
            return run(client, options)
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # of standard output: the client has errors of its own
            return _nobody_reads()
        except OSError as error:
            print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
            return 1


def _chat(client: LLMClient, options: argparse.Namespace) -> int:
    screen = Screen(sys.stdout, sys.stderr)
    conversation = _conversation(client, options)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return 0 if Talk(conversation, screen, _line_of(sys.stdin)).run() else 1
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() uses it once it is imported
    interrupts = Interrupts()
    interrupts.install()
    with terminal(sys.stdin.fileno()):
        screen.note(_greeting(client))
        Talk(conversation, screen, _typed, interrupts).run()
    return 0


def _ask(client: LLMClient, options: argparse.Namespace) -> int:
    screen = Screen(sys.stdout, sys.stderr)
    question = options.question
    if options.file is not None:
        try:
            question += "\n\n" + _read(options.file)
        except (OSError, ValueError) as error:
            screen.error(f"{options.file} cannot be read: {error}")
            return 1
    try:
        told = _conversation(client, options).ask(question, screen.answer)
    except LLMError as error:
        screen.error(explained(error))
        return 1
    screen.end_line()
    if line := told.line():
        screen.note(f"[{line}]")
    return 0


def _health(client: LLMClient, options: argparse.Namespace) -> int:
    try:
        health = client.health_check()
    except LLMError as error:
        Screen(sys.stdout, sys.stderr).error(explained(error))
        return 1
    for name, value in health.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"{harmless(name)}: {harmless(text)}")
    sys.stdout.flush()
    return 0 if health.get("status") == "ok" else 1


def _conversation(client: LLMClient, options: argparse.Namespace) -> Conversation:
    names = ("model", "max_tokens", "temperature")
    given = {name: getattr(options, name) for name in names}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Conversation(client, fields, options.system)


def _greeting(client: LLMClient) -> str:
    """Says whether the server is ready. A server that is not may be later."""
    try:
        health = client.health_check()
    except LLMError as error:
        return explained(error)
    state = health.get("state")
    name = os.path.basename(str(health.get("model_path", ""))).removesuffix(".gguf")
    if state == "ready":
        return f"{name} is ready; /help shows the commands"
    if state == "sleeping":
        return f"{name} sleeps, and the first question wakes it; /help shows the commands"
    progress = health.get("progress")
    so_far = f" ({progress:.0%})" if isinstance(progress, float) else ""
    reason = f": {health['reason']}" if health.get("reason") else ""
    return f"the server is {state}{so_far}{reason}"


def _typed(prompt: str) -> str:
    """Reads a line that somebody types. Raises EOFError and KeyboardInterrupt."""
    try:
        return input(prompt)
    except SystemError as error:
        # A second SIGINT, while readline leaves because of the first: CPython runs the handler,
        # and is then surprised that it finds the first one's exception.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


def _line_of(file: TextIO) -> Callable[[str], str]:
    """Returns what reads a line of a file, and shows no prompt."""

    def read(_prompt: str) -> str:
        line = file.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    return read


def _read(path: str) -> str:
    """Reads a text, `-` being standard input. Raises OSError, and ValueError if it is too long."""
    with contextlib.ExitStack() as stack:
        file = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
    return data.decode("utf-8")


def parsers(program: str) -> Mapping[str, argparse.ArgumentParser]:
    """Returns the parser of each command."""
    return _parsers(program)[1]


def _parsers(
    program: str,
) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Returns the program's parser, and that of each command."""
    parser = argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description="Talk to the server from a terminal.",
        epilog="LLM_URL and LLM_API_KEY stand for --url and --key. docs/client.md has more.",
    )
    parser.add_argument("--version", action="version", version=f"sheily-server {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    server = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add = server.add_argument
    add("--url", default=os.environ.get("LLM_URL") or URL, help=f"of the server (default: {URL})")
    key = _first_key(os.environ)
    add("--key", default=key, help="API key; other users see a flag, but not the variable")
    answers = argparse.ArgumentParser(add_help=False, parents=[server], allow_abbrev=False)
    add = answers.add_argument
    add("--model", help="default: the server's model")
    add("--system", type=_text, metavar="TEXT", help="the system message")
    add("--max-tokens", type=int, metavar="N", help="most tokens of an answer")
    add("--temperature", type=_number, metavar="T", help="0 to 2; 0 takes the likeliest tokens")
    said = "talk: questions from the terminal, or one in each line of standard input"
    chat = commands.add_parser("chat", parents=[answers], help=said, description=said)
    chat.set_defaults(run=_chat)
    said = "answer one question on standard output"
    ask = commands.add_parser("ask", parents=[answers], help=said, description=said)
    ask.add_argument("question", type=_text)
    ask.add_argument("--file", metavar="PATH", help="a text behind the question; -: standard input")
    ask.set_defaults(run=_ask)
    said = "show the server's state; exit code 1 if it is not ready"
    health = commands.add_parser("health", parents=[server], help=said, description=said)
    health.set_defaults(run=_health)
    return parser, commands.choices


def _first_key(environment: Mapping[str, str]) -> str | None:
    """Returns the key to call with: the variable is the server's too, where it may list several."""
    return environment.get("LLM_API_KEY", "").split(",")[0].strip() or None


def _text(argument: str) -> str:
    """A type for argparse: texts, in which bytes that are not UTF-8 become U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _number(argument: str) -> float:
    """A type for argparse: finite numbers."""
    number = float(argument)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{argument} is not a number")
    return number


def _version() -> str:
    try:
        return importlib.metadata.version("sheily-server")
    except importlib.metadata.PackageNotFoundError:  # a checkout
        return "0"


def _open_standard_streams() -> None:
    """Has nothing that a stream cannot encode or decode end the program, nor one that is closed."""
    for name, mode, errors in (
        ("stdin", "r", "replace"),
        ("stdout", "w", "backslashreplace"),
        ("stderr", "w", "backslashreplace"),
    ):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for the program's life
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _nobody_reads() -> int:
    """Returns the exit code of SIGPIPE, and has Python find no broken pipe at its end."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    return 128 + 13


if __name__ == "__main__":
    sys.exit(main())
