"""The command `sheily`: finds the command behind its first word, and hands it the others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..shell import program, sheily
from ..version import ShowVersion


@dataclass(frozen=True, slots=True)
class Command:
    """`run` takes the words behind the command and the program's name, and returns the exit code.

    What a command needs is imported when it runs: the native library is for few of them.
    """

    help: str
    run: Callable[[Sequence[str], str], int]


def _serve(arguments: Sequence[str], called: str) -> int:
    from . import serve

    return serve.main(arguments, called)


def _client(command: str) -> Callable[[Sequence[str], str], int]:
    def run(arguments: Sequence[str], called: str) -> int:
        from ..client.__main__ import main

        return main([command, *arguments], program=called)

    return run


def _fetch(arguments: Sequence[str], called: str) -> int:
    from . import fetch

    return fetch.main(arguments, f"{called} fetch")


def _tune(arguments: Sequence[str], called: str) -> int:
    from sheily_native.tune.__main__ import main

    return main(arguments, program=f"{called} tune", server=sheily("serve"))


COMMANDS: Mapping[str, Command] = {
    "serve": Command("start the server", _serve),
    "fetch": Command("bring a model", _fetch),
    "chat": Command("talk to a running server", _client("chat")),
    "ask": Command("ask a running server one question", _client("ask")),
    "health": Command("show the state of a running server", _client("health")),
    "tune": Command("find the fastest settings for this machine", _tune),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: that of the command, 2 for a word that is none."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    called = program()
    if given and given[0] in COMMANDS:
        return COMMANDS[given[0]].run(given[1:], called)
    _parser(called).parse_args(given)
    return 2


def _parser(called: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=called,
        allow_abbrev=False,
        description="A local, OpenAI-compatible LLM server for the CPU.",
        epilog=f"`{called} COMMAND --help` says more of each.",
    )
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help)
    return parser
