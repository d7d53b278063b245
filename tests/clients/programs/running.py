"""Runs one program against one server, in a folder and an environment of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import processes

KEY = "key-of-the-programs"
"""The servers let in who has it, so a program that loses its key fails."""
LIMIT_S = 300.0

# Nothing of these programs is to leave the machine: each has its own switch for reports, updates
# and lists of prices. Where one has none, a proxy that is not there refuses at once.
_SILENT = {
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DO_NOT_TRACK": "1",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server that programs ask: the address with `/v1`, and the name of its model."""

    base_url: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a program ended, and what it wrote to its two outputs."""

    code: int
    output: str
    errors: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.output}\n{self.errors}"


def run(
    command: Sequence[str],
    served: Served,
    home: Path,
    *,
    limit_s: float = LIMIT_S,
    **variables: str,
) -> Done:
    """Runs a command to its end; its processes are gone then. `home` is its home and its folder.

    The test fails if it takes longer than `limit_s` seconds.
    """
    with tempfile.TemporaryFile("w+b") as output, tempfile.TemporaryFile("w+b") as errors:
        process = subprocess.Popen(
            command,
            env=_environment(served, home) | variables,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    done = Done(code=-1 if code is None else code, output=texts[0], errors=texts[1])
    if code is None:
        pytest.fail(f"not done after {limit_s:g} s: {done}", pytrace=False)
    return done


def passes(command: Sequence[str], served: Served, home: Path, *, limit_s: float = LIMIT_S) -> None:
    """Runs one of the programs of this folder: its last line begins with `ok` if all is well."""
    done = run(command, served, home, limit_s=limit_s)
    lines = done.output.splitlines() or [""]
    if done.code != 0 or not lines[-1].startswith("ok "):
        pytest.fail(str(done), pytrace=False)


def _environment(served: Served, home: Path) -> dict[str, str]:
    """Variables of this process that are nobody's settings, and those that name the server."""
    kept = {"PATH", "LANG", "LC_ALL", "TERM", "SSL_CERT_FILE", processes.VARIABLE}
    return {
        **{name: value for name, value in os.environ.items() if name in kept},
        **_SILENT,
        "HOME": str(home),
        "TMPDIR": str(home),
        "OPENAI_BASE_URL": served.base_url,
        "OPENAI_API_KEY": KEY,
        "MODEL": served.model,
    }
