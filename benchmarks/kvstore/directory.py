"""What a directory with very many blocks costs: the start of a server, and a prompt without a hit.

Both beside a server whose directory is empty, which runs at the same time and is asked the same in
turn. The model's size is no part of either, so a small one does.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.common.own import Findings, asked, spreads
from benchmarks.kvstore import files
from benchmarks.serve.client import Address, Ask, ask_all, user
from benchmarks.serve.contestants import IGNORE_EOS, Recipe, Server, ours_with
from benchmarks.serve.texts import sized
from benchmarks.serve.token_counter import Count, token_counter
from sheily_server.kvstore.keys import BLOCK, Span

BLOCKS = 100_000
ASKED_START_MS = 1000
ASKED_MISS_US = 1000
CACHE_GB = 64
MISSES = 50
"""Couples of prompts a round."""
_PROMPT_TOKENS = 600
_SIZE = 64
_KEY_BYTES, _MARK_BYTES = 32, 8


def measure(model: Path, rounds: int, n_blocks: int, parent: Path) -> Findings:
    """Raises BenchmarkError."""
    start_ms: dict[str, list[float]] = {"full": [], "empty": []}
    miss_ms: dict[str, list[float]] = {"full": [], "empty": []}
    with files.scratch(parent) as full, files.scratch(parent) as empty:
        fill(full, n_blocks)
        recipes = {
            "full": ours_with(model, cache_dir=full, cache_gb=CACHE_GB, speculation="off"),
            "empty": ours_with(model, cache_dir=empty, cache_gb=CACHE_GB, speculation="off"),
        }
        for _ in tqdm(range(rounds), desc="starts", disable=None, leave=False):
            for name, recipe in recipes.items():
                start_ms[name].append(1e3 * _start_s(recipe))
        with token_counter(model) as count:
            _ask_in_turn(recipes, count, rounds * MISSES, miss_ms)
    figures = {
        **{f"start, {name} directory, ms": seen for name, seen in start_ms.items()},
        **{f"first token of a miss, {name}, ms": seen for name, seen in miss_ms.items()},
    }
    starts = zip(start_ms["full"], start_ms["empty"], strict=True)
    misses = zip(miss_ms["full"], miss_ms["empty"], strict=True)
    verdicts = [
        asked(
            f"start with {n_blocks:,} blocks, more than with none",
            *(ASKED_START_MS, [one - other for one, other in starts]),
            unit="ms",
        ),
        asked(
            f"a miss among {n_blocks:,} blocks, more than among none",
            *(ASKED_MISS_US, [1e3 * (one - other) for one, other in misses]),
            unit="us",
        ),
    ]
    return Findings(spreads(figures), verdicts)


def fill(folder: Path, n_blocks: int) -> None:
    """Makes files with the names of blocks, and with what no block has in it."""
    choose = random.Random(n_blocks)
    content = bytes(_SIZE)
    for number in range(256):
        (folder / f"{number:02x}").mkdir(mode=0o700)
    for _ in tqdm(range(n_blocks), desc="files", disable=None, leave=False):
        parent, mark = choose.randbytes(_KEY_BYTES), choose.randbytes(_MARK_BYTES)
        span = Span(0, BLOCK, parent, mark)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(folder / span.folder / span.name, flags, 0o600)
        os.write(descriptor, content)
        os.close(descriptor)


def _start_s(recipe: Recipe) -> float:
    began = time.monotonic()
    with Server(recipe):
        return time.monotonic() - began


def _ask_in_turn(
    recipes: dict[str, Recipe], count: Count, times: int, miss_ms: dict[str, list[float]]
) -> None:
    choose = random.Random(times)
    with Server(recipes["full"]) as full, Server(recipes["empty"]) as empty:
        sides = [("full", full.address), ("empty", empty.address)]
        for _, address in sides:
            _first_ms(address, "Good morning.")
        for _ in tqdm(range(times), desc="misses", disable=None, leave=False):
            text = sized(choose, count, _PROMPT_TOKENS, "Which words are these?")
            for name, address in sides:
                miss_ms[name].append(_first_ms(address, text))
            sides.reverse()


def _first_ms(address: Address, text: str) -> float:
    (answer,) = ask_all(address, [Ask([user(text)], 1)], IGNORE_EOS)
    return 1e3 * answer.first_s
