"""Checks a model before loading: whether its file is valid and whether it fits into free memory.
Knows only headers and sizes.

Sizes are in bytes. Free memory is the smaller of what the machine has (MemAvailable of
/proc/meminfo) and what this process's control groups leave (cgroup v2, or v1's memory controller).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import Config
from ..kvstore.keys import BLOCK
from ..shell import to_a_model
from . import gguf
from .gguf import GGUF

BUFFERS = 256 << 20
"""Compute buffers, logits and Python, besides model and KV cache. The 3B model takes 209 MB."""
LARGE_BODIES = 20
"""Requests with the largest allowed body that are in flight; more are refused."""
TEXTS, A_TEXT, A_SMALL_TEXT = 140 << 20, 9 << 20, 1 << 20
"""Memory for the texts of requests: TEXTS once, A_TEXT for each one with the largest allowed text,
A_SMALL_TEXT for each other one that runs or waits. Measured: 24 requests of 4 MiB take 180 MB in
the server process and 10 in the engine; a word of 1 MiB takes 75 MB while being tokenized; the ids
of a prediction take 1 MB, a bias of 128,256 tokens 2 MB in the engine."""
BACKGROUND = 64 << 20
"""What responses in the background hold together: their conversations, and events for readers."""
GRAMMARS = 192 << 20
"""The cached grammars, and two being tried: 64 MiB each."""
LEXERS, A_LEXER = 120_000_000, 4_000_000
"""Total for running answers that follow grammars, up to twice as much for more than 8 at once, or
A_LEXER for each if that is more."""
COMPILERS, COMPILERS_A_TOKEN = 40 << 20, 512
"""The process that tries grammars: a base, plus an amount for each token of the vocabulary."""
PROMPT_A_TOKEN = 40
"""Bytes per token of a waiting or running prompt, held as Python ints."""
DISK_BUFFERS = 6
"""Blocks of cells that are on their way to and from the disk."""
LEAST_CONTEXT = 64
_KV_BITS = {"f16": 16.0, "q8_0": 8.5}
_NO_LIMIT = 1 << 60


class ModelError(Exception):
    """Raised when the file is not a usable model; the message says why, in one sentence or more.
    `commands` are lines for a shell that help."""

    def __init__(self, message: str, commands: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.commands = tuple(commands)


def header(path: Path) -> GGUF:
    """Returns the header of a model. Raises ModelError."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return gguf.check(path)
        what = "is not a file"
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"The model {path} does not exist. It will be loaded when it is there; LLM_MODEL_PATH "
            "names another one. These lines bring a small one, and serve it instead:",
            to_a_model(),
        ) from None
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    except gguf.GGUFError as error:
        what = f"{error}"
    raise ModelError(
        f"The model {path} {what}. Set LLM_MODEL_PATH to a GGUF file, or replace this one: it will "
        "be loaded then."
    )


@dataclass(frozen=True, slots=True)
class Free:
    """Memory that is available, and what limits it."""

    n_bytes: int
    limit: str


def problem(config: Config, model: GGUF, free: Free) -> str | None:
    """Says why the model cannot be loaded with these settings, and the largest context that could.
    Returns None when it fits, or when its file does not tell the size of its KV cache."""
    a_token, needed = kv_bytes_a_token(config, model), needed_bytes(config, model)
    if a_token is None or needed is None or needed <= free.n_bytes:
        return None
    kv = a_token * config.kv_cells
    work = _work(config, model)
    sentence = (
        f"The model does not fit into memory: it needs {_gb(model.tensor_bytes)}, its KV cache for "
        f"{config.kv_cells} tokens {_gb(kv)}, buffers {_gb(BUFFERS)} and "
        f"the work on requests {_gb(work)}, together {_gb(needed)}, and {_gb(free.n_bytes)} are "
        f"free ({free.limit})."
    )
    for parallel in (config.parallel, 1):
        smaller = replace(config, parallel=parallel, kv_tokens=None)
        n = smaller.kv_cells // smaller.context_size
        left = free.n_bytes - model.tensor_bytes - BUFFERS - _work(smaller, model, 0)
        room = int(left // (a_token * n + PROMPT_A_TOKEN * (parallel + config.queue)))
        if room >= LEAST_CONTEXT:
            return f"{sentence} LLM_CONTEXT_SIZE={room} would fit with LLM_PARALLEL={parallel}."
    return f"{sentence} No context would fit."


def needed_bytes(config: Config, model: GGUF) -> float | None:
    """Returns the memory that the model and its requests may take; None as for `problem`."""
    a_token = kv_bytes_a_token(config, model)
    if a_token is None:
        return None
    kv = a_token * config.kv_cells
    return model.tensor_bytes + kv + BUFFERS + _work(config, model)


def _work(config: Config, model: GGUF, context_size: int | None = None) -> int:
    """Returns the memory that all requests together, and stored responses, may take besides the KV
    cache."""
    context = config.context_size if context_size is None else context_size
    n_requests = config.parallel + config.queue
    n_large = min(n_requests, LARGE_BODIES)
    texts = TEXTS + A_TEXT * n_large + A_SMALL_TEXT * (n_requests - n_large)
    prompts = PROMPT_A_TOKEN * context * n_requests
    compilers = COMPILERS + COMPILERS_A_TOKEN * model.lengths.get("tokenizer.ggml.tokens", 0)
    lexers = lexer_bytes(config.parallel)
    disk = DISK_BUFFERS * BLOCK * (kv_bytes_a_token(config, model) or 0) if config.cache_dir else 0
    stored = 0 if config.store else config.store_limit_mb << 20
    background = BACKGROUND if config.background else 0
    return texts + background + GRAMMARS + lexers + compilers + prompts + stored + int(disk)


def lexer_bytes(parallel: int) -> int:
    """Returns the memory that the lexers of so many running answers may take."""
    return max(int(LEXERS * min(2.0, max(1.0, parallel / 8))), A_LEXER * parallel)


def kv_bytes_a_token(config: Config, model: GGUF) -> float | None:
    """Returns the bytes of K and V for one token in all layers; None when the file does not say."""
    n_layers = model.of_architecture("block_count")
    n_heads = model.of_architecture("attention.head_count")
    n_kv_heads = model.of_architecture("attention.head_count_kv") or n_heads
    width = model.of_architecture("embedding_length")
    if not (n_layers and n_heads and n_kv_heads and width):
        return None
    keys = model.of_architecture("attention.key_length") or width // n_heads
    values = model.of_architecture("attention.value_length") or width // n_heads
    return n_layers * n_kv_heads * (keys + values) * _KV_BITS[config.kv_type] / 8


def free_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> Free:
    """Returns what is free now; practically unlimited where the system does not say."""
    found = [Free(_NO_LIMIT, "no limit is known")]
    machine = _field(proc / "meminfo", "MemAvailable:")
    if machine is not None:
        found.append(Free(1024 * machine, "of this machine"))
    for group in _groups(proc, groups):
        limit = _number(group / "memory.max")
        used = _number(group / "memory.current")
        cache = _field(group / "memory.stat", "inactive_file")
        if limit is None:
            limit = _number(group / "memory.limit_in_bytes")
            used = _number(group / "memory.usage_in_bytes")
            cache = _field(group / "memory.stat", "total_inactive_file")
        if limit is not None and limit < _NO_LIMIT:
            left = limit - (used or 0) + (cache or 0)
            found.append(Free(max(left, 0), "under the limit of its control group"))
    return min(found, key=lambda free: free.n_bytes)


def _groups(proc: Path, groups: Path) -> Iterator[Path]:
    """Yields the folders of this process's control groups and of all their parents."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        folder = root / place.strip("/")
        for one in (folder, *folder.parents):
            yield one
            if one == root:
                break


def _field(path: Path, name: str) -> int | None:
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return None


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB"


Mark = tuple[int, ...]
"""A value that changes with a file."""


class ModelFile:
    """A model's file; reads its header again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[Mark, GGUF] | None = None
        self.mark: Mark | None = None
        """The mark of the file whose header was asked for last; None if there was none."""

    def header(self) -> GGUF:
        """Returns the header. Raises ModelError."""
        self.mark = mark_of(self._path)
        if self._read is not None and self._read[0] == self.mark:
            return self._read[1]
        found = header(self._path)
        self._read = None if self.mark is None else (self.mark, found)
        return found


def mark_of(path: Path) -> Mark | None:
    """Returns a value that changes with the file; None if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
