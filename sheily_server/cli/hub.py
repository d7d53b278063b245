"""Brings GGUF files from the Hugging Face Hub, or from what HF_ENDPOINT names instead.

Names, tokens and errors are those of huggingface_hub. It begins each download anew; here what has
arrived stays in a file beside the model's place, named after the hash, and the next run goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..shell import python
from .download import FetchError, explain, sha256

EXTRA = "sheily-server[fetch]"
SPARE = 64 << 20
"""Bytes of the disk that stay free."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART_OF_MANY = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a repository: `repo` is owner/name, `file` its path in there."""

    repo: str
    file: str

    @property
    def filename(self) -> str:
        return self.file.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Brought:
    """A file that is here; `licence` is what the repository says, "" if nothing. `new`: it was
    not here before."""

    path: Path
    licence: str
    new: bool


def fetch(wanted: HubFile, folder: Path) -> Brought:
    """Puts the file into `folder`, whole and with the hub's hash, or leaves nothing of its name.

    A file of that name with another hash is replaced once the new one is complete. Draws a bar on
    a terminal.

    Raises:
        FetchError: for every failure, with what to do.
    """
    hub = _Hub(wanted.repo)
    licence = hub.licence()
    if _PART_OF_MANY.search(wanted.file):
        raise FetchError(f"{wanted.file} is one of several parts; the server takes models whole")
    if wanted.file not in hub.files():
        raise FetchError(hub.choices(f"{wanted.repo} has no file {wanted.file}"))
    digest, size, url = hub.metadata(wanted.file)
    target = folder / wanted.filename
    part = folder / f".{wanted.filename}.{digest[:16]}.part"
    try:
        if target.is_file() and target.stat().st_size == size and sha256(target) == digest:
            return Brought(target, licence, False)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(part) as file:
            _check_room(folder, size - file.tell(), wanted)
            hub.download(url, file, size, wanted.filename)
            file.flush()
            os.fsync(file.fileno())
            if (found := sha256(part)) != digest:
                part.unlink()
                raise FetchError(
                    f"{wanted.filename} arrived with the sha256 {found} instead of {digest}, so it"
                    " was not kept; try again"
                )
            part.replace(target)
    except OSError as error:
        full = f"the disk of {folder} is full"
        raise FetchError(explain(error, wanted.filename, folder, full)) from error
    return Brought(target, licence, True)


def choices(repo: str) -> str:
    """Says which GGUF files a repository has. Raises FetchError."""
    return _Hub(repo).choices(f"name a file of {repo}")


class _Hub:
    """A repository, asked through huggingface_hub. Every method raises FetchError."""

    def __init__(self, repo: str) -> None:
        try:
            import huggingface_hub
            import huggingface_hub.errors
        except ImportError as error:
            raise FetchError(
                "models from the Hugging Face Hub need one more package:\n"
                f"  {python('-m', 'pip', 'install', EXTRA)}"
            ) from error
        self._hf: Any = huggingface_hub
        self._repo = repo
        # Now, not when the package is imported.
        self._endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        with self._explained():
            api = self._hf.HfApi(endpoint=self._endpoint)
            self._info = api.model_info(repo)

    def files(self) -> list[str]:
        return [sibling.rfilename for sibling in self._info.siblings or []]

    def choices(self, problem: str) -> str:
        files = [name for name in self.files() if name.lower().endswith(".gguf")]
        if not files:
            return f"{problem}; {self._repo} has no GGUF files"
        return "\n  ".join([f"{problem}; its GGUF files are:", *files])

    def licence(self) -> str:
        card = self._info.card_data
        name = card and (card.get("license_name") or card.get("license"))
        return str(name) if name else ""

    def metadata(self, file: str) -> tuple[str, int, str]:
        """Returns the file's sha256, its size in bytes, and the address of this very version."""
        with self._explained():
            url = self._url(file, None)
            found = self._hf.get_hf_file_metadata(url, token=self._token(), endpoint=self._endpoint)
        if not _SHA256.fullmatch(found.etag or "") or found.size is None:
            raise FetchError(f"the hub says no sha256 and size of {file}, so it cannot be checked")
        return found.etag, found.size, self._url(file, found.commit_hash)

    def download(self, url: str, file: BinaryIO, size: int, name: str) -> None:
        """Appends what is missing. huggingface_hub repeats what is cut off, a few times."""
        from huggingface_hub.file_download import http_get

        headers = self._hf.utils.build_hf_headers(token=self._token())
        # As compressed content has no length.
        headers["Accept-Encoding"] = "identity"
        before = file.tell()
        try:
            with self._explained():
                http_get(
                    url,
                    file,
                    resume_size=before,
                    headers=headers,
                    expected_size=size,
                    displayed_filename=name,
                )
        except FetchError as error:
            file.flush()
            raise FetchError(
                f"{error}; {file.tell() / 1e6:.0f} of {size / 1e6:.0f} MB are here, and the same"
                " command goes on from there"
            ) from error

    def _url(self, file: str, revision: str | None) -> str:
        url = self._hf.hf_hub_url(self._repo, file, revision=revision, endpoint=self._endpoint)
        return str(url)

    def _token(self) -> str | bool:
        return self._hf.get_token() or False

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        errors = self._hf.errors
        page = f"{self._endpoint or 'https://huggingface.co'}/{self._repo}"
        token = "set HF_TOKEN, or run `hf auth login`"
        try:
            yield
        except errors.HFValidationError as error:
            raise FetchError(f"{self._repo} is not the name of a repository, owner/name") from error
        except errors.GatedRepoError as error:
            raise FetchError(
                f"{self._repo} asks you to accept its licence: do that at {page}, make a token"
                f" there in your settings, and {token}"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise FetchError(
                f"there is no repository {page}, or it is private; for a private one {token}"
            ) from error
        except errors.OfflineModeIsEnabled as error:
            raise FetchError("HF_HUB_OFFLINE is set, which forbids downloads: unset it") from error
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403):
                sentence = f"the hub refuses {page} with status {status}: {token}"
            else:
                sentence = f"the hub answered with status {status} for {page}; try again later"
            raise FetchError(sentence) from error
        except errors.HTTPError as error:
            hub = self._endpoint or "huggingface.co"
            raise FetchError(
                f"no network: {hub} cannot be reached, or the connection was lost ({error})"
            ) from error


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """Opens what has arrived so far, at its end, for one process alone."""
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FetchError("another process is bringing the same file") from error
        yield file


def _check_room(folder: Path, missing: int, wanted: HubFile) -> None:
    free = shutil.disk_usage(folder).free
    if missing + SPARE > free:
        raise FetchError(
            f"the disk of {folder} has {free / 1e6:.0f} MB free, and {wanted.filename} needs"
            f" {(missing + SPARE) / 1e6:.0f} MB more; --to names another folder"
        )
