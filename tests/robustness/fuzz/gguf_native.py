"""The same damaged files through llama.cpp's parser, in a process of its own.

That process may die, which is counted by how, and for files that our own check lets pass once more;
it may not hang.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.robustness.fuzz import gguf_bytes, gguf_check
from tests.robustness.fuzz.running import FOUND, HangError, Target

HANG_S = 60.0
_START_S = 60.0
_MOST_KEPT = 50


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    child = _Child(folder)

    def make(random: Random) -> bytes:
        return gguf_bytes.make(random, folder)

    try:
        yield Target(make, child.check, hang_s=_START_S + HANG_S, extra=child.extra)
    finally:
        child.stop()


class _Child:
    """The process that loads, started again when it has died."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "case.gguf"
        self._errors = folder / "stderr"
        self._process: subprocess.Popen[bytes] | None = None
        self._fresh = False
        self._deaths: Counter[str] = Counter()
        self._n_past_check = 0

    def extra(self) -> dict[str, Any]:
        return {"deaths": dict(self._deaths.most_common()), "deaths_past_check": self._n_past_check}

    def stop(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def check(self, data: bytes) -> str:
        gguf_bytes.write(data, self._path)
        passes = gguf_check.passes(self._path)
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        wait = _START_S if self._fresh else HANG_S
        self._fresh = False
        with suppress(BrokenPipeError):
            process.stdin.write(f"{self._path}\n".encode())
            process.stdin.flush()
        if not select.select([process.stdout], [], [], wait)[0]:
            self.stop()
            raise HangError("llama.cpp hangs")
        answer = process.stdout.readline()
        if answer:
            return f"{answer.decode().rstrip()}{' (passes our check)' if passes else ''}"
        code = process.wait()
        assert code < 0, f"the child left with {code}: {self._errors.read_text('utf-8', 'replace')}"
        self.stop()
        return self._died(code, data, passes)

    def _died(self, code: int, data: bytes, passes: bool) -> str:
        how = f"{signal.Signals(-code).name}{self._reason()}"
        if self._deaths[how] == 0 and len(self._deaths) < _MOST_KEPT:
            folder = FOUND / "gguf-native" / "deaths"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{len(self._deaths)}-{'past' if passes else 'stopped'}").write_bytes(data)
        self._deaths[how] += 1
        self._n_past_check += passes
        return f"died{' (passes our check)' if passes else ''}"

    def _reason(self) -> str:
        """The place of a failed assertion, or the exception that nobody caught."""
        text = self._errors.read_text("utf-8", "replace")
        found = re.search(r"F ggml: .*?([\w.-]+:\d+: .{0,80})|what\(\): +(.{0,80})", text)
        return f": {found[1] or found[2]}" if found else ""

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._fresh = True
            with self._errors.open("wb") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.robustness.fuzz.native_child"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=os.environ | {"GGML_NO_BACKTRACE": "1"},
                )
        return self._process
