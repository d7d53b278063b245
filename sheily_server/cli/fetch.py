"""`sheily fetch`: brings a model. The server itself never imports this: it downloads nothing."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..shell import sheily
from ..version import ShowVersion
from . import hub, pypi
from .download import FetchError
from .hub import HubFile
from .places import find, user_folder
from .pypi import SMOLLM2, RemoteModel


@dataclass(frozen=True, slots=True)
class Known:
    """A model with a short name. `size` is in bytes, `terms` where its licence can be read."""

    source: RemoteModel | HubFile
    size: int
    licence: str
    terms: str
    about: str


CATALOGUE: Mapping[str, Known] = {
    "smollm2": Known(
        SMOLLM2,
        SMOLLM2.size,
        "Apache-2.0",
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "a real but weak model of 135 million weights, for the first run and for tests",
    ),
    "llama-3.2-3b-instruct": Known(
        HubFile("bartowski/Llama-3.2-3B-Instruct-GGUF", "Llama-3.2-3B-Instruct-Q8_0.gguf"),
        3_421_899_296,
        "Llama 3.2 Community License",
        "https://huggingface.co/meta-llama/Llama-3.2-3B-Instruct",
        "the server's default model, of 3 billion weights, from the Hugging Face Hub",
    ),
}


def main(arguments: Sequence[str], program: str, *, next_step: bool = True) -> int:
    """Runs `sheily fetch`. Returns 1 if a model cannot be fetched, 2 for unusable arguments.

    `next_step`: say how the server is started.
    """
    parser = options(program)
    chosen = parser.parse_args(arguments)
    if chosen.list:
        _list()
        return 0
    if chosen.name is None:
        parser.error(f"name a model: {', '.join(CATALOGUE)}, or OWNER/REPOSITORY FILE.gguf")
    known = CATALOGUE.get(chosen.name.lower())
    repo, _, file = chosen.name.partition(":")
    if known is None and "/" not in repo:
        parser.error(
            f"no model is called {chosen.name}: name {', '.join(CATALOGUE)}, or a file of the "
            "Hugging Face Hub as OWNER/REPOSITORY FILE.gguf"
        )
    if chosen.file is not None and (known is not None or file):
        parser.error(f"{chosen.name} names a file already: leave {chosen.file} out")
    # A plain SIGTERM would leave a half download behind, or its temporary folder.
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        source = known.source if known else HubFile(repo, chosen.file or file)
        path = _bring(source, chosen.to or user_folder(), known)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; the same command begins again or goes on", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    if next_step:
        _say_next(path, chosen.name)
    return 0


def options(program: str) -> argparse.ArgumentParser:
    """Returns the parser of the command's words."""
    parser = argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description="Bring a model into a folder where `sheily serve NAME` finds it.",
        epilog="HF_TOKEN, HF_ENDPOINT and the token of `hf auth login` count for the Hugging Face "
        "Hub. docs/cli.md has more.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("--list", action="store_true", help="show the models with short names")
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help=f"{', '.join(CATALOGUE)}, or OWNER/REPOSITORY of the Hugging Face Hub",
    )
    parser.add_argument("file", nargs="?", metavar="FILE.gguf", help="a file of that repository")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help=f"the folder (default: {user_folder()})"
    )
    return parser


def _bring(source: RemoteModel | HubFile, folder: Path, known: Known | None) -> Path:
    """Returns where the model is. Raises FetchError."""
    if known is not None:
        print(f"licence: {known.licence}, {known.terms}")
    if isinstance(source, RemoteModel):
        path = folder / source.filename
        new = pypi.fetch(source, folder, progress=sys.stderr.isatty())
    else:
        if not source.file:
            raise FetchError(hub.choices(source.repo))
        brought = hub.fetch(source, folder)
        path, new = brought.path, brought.new
        if known is None:
            print(f"licence: {brought.licence or 'not said'}; more at the page of {source.repo}")
    print(f"{path}: " + ("here, hash checked" if new else "already there, nothing to do"))
    return path


def _say_next(path: Path, name: str) -> None:
    # By its name where the server looks for that, from this folder at least.
    names = (name.lower(), path.name)
    served = next((short for short in names if find(short) == path.absolute()), None)
    print(f"start the server: {sheily('serve', served or str(path.absolute()))}")


def _list() -> None:
    for name, known in CATALOGUE.items():
        print(f"{name}  {known.source.filename}  {known.size / 1e6:.0f} MB  {known.licence}")
        print(f"    {known.about}")


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
