"""`sheily doctor`: looks at what a start needs, loads nothing, and says what to do."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sheily_native import NotBuiltError, build_info
from sheily_native._typed import REBUILD

from ..backend import preflight
from ..backend.kernels import check_kernel
from ..backend.preflight import ModelError
from ..config import Config, ConfigError, open_doors, unknown_variables, variable
from ..shell import sheily
from ..store.files import UnfitError, prepare
from ..templates.registry import UnknownPromptFormatError, recognize
from ..version import ShowVersion, versions
from ..web.binding import explained, own_server
from .choosing import add_model, settings

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a subject. `note`: works, and could be better; `wrong`: stops the start or
    the answers. `commands` are lines for a shell that help."""

    about: str
    state: State
    text: str
    commands: tuple[str, ...] = ()


def options(program: str) -> argparse.ArgumentParser:
    """Returns the parser of the command's words."""
    parser = argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description="Look at CPU, build, settings, model, memory and port, and say what to do. "
        "Exit code 1 if something would stop the server.",
    )
    parser.add_argument("--version", action=ShowVersion)
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    return parser


def main(arguments: Sequence[str], program: str) -> int:
    """Returns the exit code: 1 if something is wrong."""
    chosen = options(program).parse_args(arguments)
    findings = list(examine(chosen.model, os.environ))
    wrong = [finding for finding in findings if finding.state == "wrong"]
    if chosen.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return 1 if wrong else 0
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        print(f"{finding.state:<5}  {finding.about:<{width}}  {finding.text}")
        for command in finding.commands:
            print(f"{'':<{width + 9}}  {command}")
    if wrong:
        print(f"\nTo mend first: {', '.join(finding.about for finding in wrong)}.")
        return 1
    if any(finding.about == "port" and finding.state == "note" for finding in findings):
        print("\nNothing is wrong, and a server runs already.")
        return 0
    words = ["serve"] if chosen.model is None else ["serve", chosen.model]
    print(f"\nNothing stops the server: {sheily(*words)}")
    return 0


def examine(model: str | None, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yields what is found, in the order of the screen."""
    yield Finding("version", "ok", f"{versions()}, Python {sys.version.split()[0]}")
    yield _build()
    try:
        config = settings(model)
        check_kernel(config, environment)
    except ConfigError as error:
        first, *commands = str(error).splitlines()
        yield Finding("settings", "wrong", first, tuple(line.strip() for line in commands))
        return
    notes = [*unknown_variables(environment), *open_doors(config)]
    for sentence in notes:
        yield Finding("settings", "note", sentence)
    if not notes:
        yield Finding("settings", "ok", "all LLM_ variables can be used")
    checks: tuple[Callable[[Config], Iterator[Finding]], ...] = (_model, _port, _store, _tuned)
    for check in checks:
        yield from check(config)


def _build() -> Finding:
    try:
        info = build_info()
    except NotBuiltError as error:
        return Finding("CPU", "wrong", str(error))
    if info.missing:
        text = f"{info.cpu_model} lacks {' '.join(info.missing)}, which the build uses"
        return Finding("CPU", "wrong", f"{text}; build again in the source folder", (REBUILD,))
    if info.unused:
        text = (
            f"{info.cpu_model}; the {info.name} build leaves {' '.join(info.unused)} of it unused"
        )
        return Finding("CPU", "note", text)
    return Finding("CPU", "ok", f"{info.cpu_model}; the {info.name} build uses all that it offers")


def _model(config: Config) -> Iterator[Finding]:
    try:
        header = preflight.header(config.model_path)
    except ModelError as error:
        yield Finding("model", "wrong", str(error), error.commands)
        return
    texts = {key: value for key, value in header.metadata.items() if isinstance(value, str)}
    size = f"{header.tensor_bytes / 1e9:.2f} GB, {header.quantization or 'of unknown type'}"
    try:
        template = recognize(texts).name
    except UnknownPromptFormatError as error:
        yield Finding("model", "wrong", f"{config.model_path}: {error}")
    else:
        yield Finding("model", "ok", f"{config.model_path}, {size}, {template} prompts")
    free = preflight.free_memory()
    needed = preflight.needed_bytes(config, header)
    problem = preflight.problem(config, header, free)
    if problem is not None:
        yield Finding("memory", "wrong", problem)
    elif needed is None:
        yield Finding("memory", "note", "the file does not say how much memory its cache takes")
    else:
        text = f"{needed / 1e9:.2f} GB may be needed, {free.n_bytes / 1e9:.2f} GB are free"
        yield Finding("memory", "ok", f"{text} ({free.limit})")


def _port(config: Config) -> Iterator[Finding]:
    where = f"{config.host}:{config.port}"
    try:
        found = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
    except OSError as error:
        model = own_server(config.host, config.port)
        if model is not None:
            text = f"a server of SHEILY runs on {where}, with the model {model!r}"
            yield Finding("port", "note", text, (sheily("health"),))
        else:
            yield Finding("port", "wrong", str(explained(config, error)))
    else:
        yield Finding("port", "ok", f"{where} is free" if config.port else "a free one is taken")


def _store(config: Config) -> Iterator[Finding]:
    path = config.store
    if path is None:
        return
    name = variable("store")
    try:
        if path.exists():
            prepare(path)
        elif not os.access(path.parent, os.W_OK | os.X_OK):
            raise UnfitError(f"cannot be made: {str(path.parent)!r} cannot be written into")
    except (UnfitError, OSError) as error:
        yield Finding("store", "wrong", f"{name} is {str(path)!r}, which {error}.")
    else:
        yield Finding("store", "ok", f"{path} can be used")


def _tuned(config: Config) -> Iterator[Finding]:
    tuned = config.tuned
    if tuned is None:
        return
    try:
        cpu = build_info().cpu_model
    except NotBuiltError:
        return  # which is a finding of its own
    again = (sheily("tune", str(config.model_path), "--out", tuned.path),)
    if tuned.cpu != cpu:
        text = f"{tuned.path} was made on {tuned.cpu}, this is {cpu}: it has no effect"
        yield Finding("tuned", "note", text, again)
    elif tuned.model != config.model_path.name:
        text = f"{tuned.path} was made with {tuned.model}, not {config.model_path.name}"
        yield Finding("tuned", "note", text, again)
    else:
        yield Finding("tuned", "ok", f"{tuned.path} fits this CPU and model")
