"""The command `sheily`: finds the command behind its first word, and hands it the others."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..shell import program, sheily
from ..version import ShowVersion, versions


@dataclass(frozen=True, slots=True)
class Command:
    """`run` takes the words behind the command and the program's name, and returns the exit code.
    `options` takes the program's name, and returns the parser of these words.

    What a command needs is imported when it runs: the native library is for few of them.
    """

    help: str
    run: Callable[[Sequence[str], str], int]
    options: Callable[[str], argparse.ArgumentParser]


def _serve(arguments: Sequence[str], called: str) -> int:
    from . import serve

    return serve.main(arguments, called)


def _serve_options(called: str) -> argparse.ArgumentParser:
    from . import serve

    return serve.options(called)


def _fetch(arguments: Sequence[str], called: str) -> int:
    from . import fetch

    return fetch.main(arguments, f"{called} fetch")


def _fetch_options(called: str) -> argparse.ArgumentParser:
    from . import fetch

    return fetch.options(f"{called} fetch")


def _client(name: str, help: str) -> Command:
    def run(arguments: Sequence[str], called: str) -> int:
        from ..client.__main__ import main

        return main([name, *arguments], program=called)

    def options(called: str) -> argparse.ArgumentParser:
        from ..client.__main__ import parsers

        return parsers(called)[name]

    return Command(help, run, options)


def _tune(arguments: Sequence[str], called: str) -> int:
    from sheily_native.tune.__main__ import main

    from .places import FILES, find

    words = [str(find(word) or word) if word.lower() in FILES else word for word in arguments]
    return main(words, program=f"{called} tune", server=sheily("serve"))


def _tune_options(called: str) -> argparse.ArgumentParser:
    from sheily_native.tune.__main__ import parser

    return parser(f"{called} tune")


def _bench(arguments: Sequence[str], called: str) -> int:
    from . import bench

    return bench.main(arguments, f"{called} bench")


def _bench_options(called: str) -> argparse.ArgumentParser:
    from . import bench

    return bench.options(f"{called} bench")


def _doctor(arguments: Sequence[str], called: str) -> int:
    from . import doctor

    return doctor.main(arguments, f"{called} doctor")


def _doctor_options(called: str) -> argparse.ArgumentParser:
    from . import doctor

    return doctor.options(f"{called} doctor")


def _completion(arguments: Sequence[str], called: str) -> int:
    from . import completion

    chosen = completion.options(f"{called} completion").parse_args(arguments)
    helps = {name: command.help for name, command in COMMANDS.items()}
    parsers = {name: command.options(called) for name, command in COMMANDS.items()}
    print(completion.script(chosen.shell, helps, parsers))
    return 0


def _completion_options(called: str) -> argparse.ArgumentParser:
    from . import completion

    return completion.options(f"{called} completion")


COMMANDS: Mapping[str, Command] = {
    "serve": Command("start the server", _serve, _serve_options),
    "fetch": Command("bring a model", _fetch, _fetch_options),
    "chat": _client("chat", "talk to a running server"),
    "ask": _client("ask", "ask a running server one question"),
    "health": _client("health", "show the state of a running server"),
    "tune": Command("find the fastest settings for this machine", _tune, _tune_options),
    "bench": Command("measure how fast this machine computes a model", _bench, _bench_options),
    "doctor": Command("say what a start needs that is not there", _doctor, _doctor_options),
    "completion": Command(
        "print a shell's script that completes these commands", _completion, _completion_options
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: that of the command, 2 for a word that is none."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    called = program()
    if not (given and given[0] in COMMANDS):
        _parser(called).parse_args(given)
        return 2
    try:
        code = COMMANDS[given[0]].run(given[1:], called)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads; and Python is to find no broken pipe at its end.
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code


class _ShowVersion(ShowVersion):
    """Adds the build that this CPU gets to the versions."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from sheily_native import NotBuiltError, build_info

        try:
            build = f", {build_info().name} build"
        except NotBuiltError:
            build = ""  # which versions() says
        print(f"{versions()}{build}")
        parser.exit()


def _parser(called: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=called,
        allow_abbrev=False,
        description="A local, OpenAI-compatible LLM server for the CPU.",
        epilog=f"`{sheily('COMMAND', '--help')}` says more of each.",
    )
    parser.add_argument("--version", action=_ShowVersion)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help)
    return parser
