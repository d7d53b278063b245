"""`sheily bench`: how fast this machine computes a model, without the server around it."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tqdm import tqdm

from sheily_native import NativeError, build_info, kernels, set_log_level
from sheily_native._busy import OtherPrograms
from sheily_native._threads import default_threads
from sheily_native.tune.measure import Bench
from sheily_native.tune.plan import Figures, Settings

from ..backend.preflight import ModelError, header
from ..config import Config, ConfigError
from ..version import ShowVersion
from .choosing import add_model, settings

PROMPT, ANSWER = 512, 64
"""Tokens of a run."""
SECONDS = 20.0
LEAST_ROUNDS = 3
NOISE = 0.1
"""Spread of the rounds, as a share of the median, from which on it is pointed out."""


def options(program: str) -> argparse.ArgumentParser:
    """Returns the parser of the command's words."""
    parser = argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description=f"Time a prompt of {PROMPT} tokens and an answer of {ANSWER}, with the "
        "settings of the server (LLM_THREADS, LLM_CHUNK, LLM_KERNEL, LLM_KV_TYPE, LLM_TUNED).",
    )
    parser.add_argument("--version", action=ShowVersion)
    add_model(parser)
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=SECONDS,
        help=f"begin no further round after so many; {LEAST_ROUNDS} are the least (default: "
        "%(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(arguments: Sequence[str], program: str) -> int:
    """Returns the exit code: 0, 1 for a failure, 2 for unusable settings, 130 for Ctrl-C."""
    chosen = options(program).parse_args(arguments)
    try:
        config = settings(chosen.model)
        header(config.model_path)
        rounds, others = _rounds(config, chosen.seconds)
    except ConfigError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except ModelError as error:
        print("\n  ".join([f"{program}: {error}", *error.commands]), file=sys.stderr)
        return 1
    except (NativeError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        return 130
    if chosen.json:
        print(json.dumps(_object(config, rounds, others)))
    else:
        print("\n".join(_lines(config, rounds, others)))
    return 0


def _rounds(config: Config, seconds: float) -> tuple[list[Figures], OtherPrograms]:
    """Times round after round. Raises NativeError, OSError."""
    set_log_level(0)
    chunk = min(config.chunk, PROMPT)
    timed = Settings(_kernel(config), config.threads, chunk, config.kv_type)
    rounds: list[Figures] = []
    bar = tqdm(total=LEAST_ROUNDS, desc="loading", leave=False, disable=not sys.stderr.isatty())
    with (
        bar,
        Bench(config.model_path, config.threads or default_threads(), lambda _: None) as bench,
    ):
        # Also uses all memory for the first time, which takes longer.
        bench.run(timed, PROMPT, 1)
        bar.set_description("timing")
        others = OtherPrograms()
        began = time.monotonic()
        while len(rounds) < LEAST_ROUNDS or time.monotonic() - began < seconds:
            rounds.append(bench.run(timed, PROMPT, ANSWER))
            bar.total = max(bar.total, len(rounds))
            bar.update()
        others.stop()
    return rounds, others


def _object(config: Config, rounds: Sequence[Figures], others: OtherPrograms) -> dict[str, object]:
    """Returns rates in tokens a second."""
    return {
        "model": Path(config.model_path).name,
        "cpu": build_info().cpu_model,
        "threads": config.threads or default_threads(),
        "kernel": _kernel(config),
        "chunk": config.chunk,
        "kv_type": config.kv_type,
        "prompt_tokens": PROMPT,
        "answer_tokens": ANSWER,
        "prefill_tokens_per_s": [round(figures.prefill, 2) for figures in rounds],
        "decode_tokens_per_s": [round(rate, 2) for rate in _decode(rounds)],
        "others_cpu_share": others.share(),
    }


def _lines(config: Config, rounds: Sequence[Figures], others: OtherPrograms) -> list[str]:
    threads = config.threads or default_threads()
    prefill = [figures.prefill for figures in rounds]
    decode = _decode(rounds)
    lines = [
        f"model    {Path(config.model_path).name}",
        f"CPU      {build_info().cpu_model}, {threads} thread{'' if threads == 1 else 's'}",
        f"settings kernel {_kernel(config)}, chunks of {config.chunk}, KV {config.kv_type}",
        f"prefill  {_rate(prefill)}, a prompt of {PROMPT} tokens",
        f"decode   {_rate(decode)}, one answer of {ANSWER} tokens behind it",
        f"         the middle of {len(rounds)} rounds, and the slowest and fastest; several "
        "answers at once are faster together",
    ]
    if max(map(_spread, (prefill, decode))) > NOISE:
        lines.append("The rounds differ much, so small differences to other figures say nothing.")
    return lines + others.sentences()


def _kernel(config: Config) -> str:
    """As the engine: SHEILY_KERNEL counts where the setting is auto."""
    return kernels.from_environment() if config.kernel == kernels.AUTO else config.kernel


def _decode(rounds: Sequence[Figures]) -> list[float]:
    return [figures.decode for figures in rounds if figures.decode is not None]


def _rate(rates: Sequence[float]) -> str:
    return f"{median(rates):.1f} tokens/s ({min(rates):.1f} to {max(rates):.1f})"


def _spread(rates: Sequence[float]) -> float:
    return (max(rates) - min(rates)) / median(rates)


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value
