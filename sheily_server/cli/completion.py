"""`sheily completion`: a script for a shell that completes commands, flags and files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import shtab

from ..config import Config, OneOf
from ..shell import SCRIPT
from .places import FILES

SHELLS = ("bash", "zsh", "fish")
_FILES = {"api_key_file", "file", "model_path", "out", "store", "tuned"}
_FOLDERS = {"to"}
_MODELS = {
    ("serve", "model"),
    ("fetch", "name"),
    ("doctor", "model"),
    ("bench", "model"),
    ("tune", "model"),
}


def options(program: str) -> argparse.ArgumentParser:
    """Returns the parser of the command's words."""
    parser = argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description="Print a script that has a shell complete the commands of sheily. docs/cli.md "
        "says where each shell wants it.",
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def script(
    shell: str, helps: Mapping[str, str], parsers: Mapping[str, argparse.ArgumentParser]
) -> str:
    """Returns the script for a shell; `helps` and `parsers` are by the name of the command."""
    parser = argparse.ArgumentParser(prog=SCRIPT)
    commands = parser.add_subparsers(dest="command")
    for name, own in parsers.items():
        for action in own._actions:
            _complete(name, action)
        commands.add_parser(name, help=helps[name], parents=[own], add_help=False)
    return str(shtab.complete(parser, shell))


def _complete(command: str, action: Any) -> None:
    if (command, action.dest) in _MODELS:
        action.choices = list(FILES)
    elif action.dest in _FILES:
        action.complete = shtab.FILE
    elif action.dest in _FOLDERS:
        action.complete = shtab.DIRECTORY
    elif command == "serve" and (words := _words().get(action.dest)):
        action.choices = list(words)


def _words() -> dict[str, tuple[str, ...]]:
    """Returns the words that settings take, for those that take one of a few."""
    parses = {setting.name: setting.metadata["parse"] for setting in fields(Config)}
    return {name: parse.words for name, parse in parses.items() if isinstance(parse, OneOf)}
