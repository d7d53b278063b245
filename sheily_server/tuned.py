"""Reads the file that `python -m sheily_native.tune` writes; knows neither CPU nor model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

VERSION = 1
KERNEL_PATTERN = r"^[a-z0-9_]{1,40}\Z"
MOST_THREADS = 1024
MOST_CHUNK = 4096
KVType = Literal["f16", "q8_0"]
_MOST_BYTES = 65_536
_FIELD = re.compile(r"field `([^`]+)`")

_Rate = Annotated[float, Meta(gt=0)]


class Tuned(Struct, frozen=True, kw_only=True):
    """The content of the file at `path`: `settings`, by the server's own names, measured with the
    CPU and the model file of these names. `otherwise` has the values to use on another CPU."""

    path: str
    cpu: str
    model: str
    settings: dict[str, int | str]
    otherwise: dict[str, int | str] = {}


class _Settings(Struct, frozen=True, forbid_unknown_fields=True):
    threads: Annotated[int, Meta(ge=0, le=MOST_THREADS)]
    chunk: Annotated[int, Meta(ge=1, le=MOST_CHUNK)]
    kernel: Annotated[str, Meta(pattern=KERNEL_PATTERN)]
    kv_type: KVType


class _Measured(Struct, frozen=True, forbid_unknown_fields=True):
    """Rates per second, for people only."""

    prefill_tokens: _Rate
    decode_tokens: _Rate
    memory_bytes: _Rate
    integer_multiply_adds: dict[str, _Rate]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    date: str
    cpu: str
    model: str
    settings: _Settings
    measured: _Measured


class _Versioned(Struct):
    version: Any


def read(path: Path) -> Tuned:
    """Reads a file. If tune did not write it, raises ValueError whose message is the end of a
    sentence."""
    try:
        if not path.is_file():
            raise ValueError(f"is {str(path)!r}, which is not a file")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
    except OSError as error:
        raise ValueError(f"is {str(path)!r}, which cannot be read ({error.strerror})") from None
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != VERSION:
            raise ValueError(
                f"is {str(path)!r}, of the version {str(version)[:20]!r}, not {VERSION}: tune again"
            )
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        place = _place(str(error)) if isinstance(error, msgspec.ValidationError) else ""
        at = f" at {place}" if place else ""
        raise ValueError(
            f"is {str(path)!r}, which is not as sheily_native.tune writes it{at}: tune again"
        ) from None
    return Tuned(
        path=str(path),
        cpu=found.cpu,
        model=found.model,
        settings=msgspec.structs.asdict(found.settings),
    )


def _place(problem: str) -> str:
    """Returns where msgspec finds a problem: the field that is wrong, missing or not known."""
    field = _FIELD.search(problem)
    path = problem.rpartition(" - at `$")[2].strip("`.") if " - at `$" in problem else ""
    return f"{path}.{field[1]}".lstrip(".") if field else path
