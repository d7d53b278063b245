"""Writes the lines that the command prints: the machine, the table, the result; pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..kernels import AUTO, OFF
from .measure import Bounds
from .plan import ANSWER, DEFAULT, PROMPT, Figures, Settings, Stage
from .search import Outcome, Row

_COLUMNS = ("", "kernel", "threads", "chunk", "KV", "prefill", "decode", "request")
_UNITS = ("", "", "", "tokens", "", "tokens/s", "tokens/s", "seconds")
_WIDTHS = (-9, -22, 7, 8, 6, 10, 10, 9)


class Report:
    """Writes lines about one machine: "auto" stands for `auto`, threads 0 for `n_threads`.

    `for_weights`: whether most of the model's weights are of a type that kernels are for.
    """

    def __init__(
        self, cpu: str, *, n_threads: int, auto: str, blas: bool, for_weights: bool = True
    ) -> None:
        self._cpu = cpu
        self._n_threads = n_threads
        self._auto = auto
        self._blas = blas
        self._for_weights = for_weights

    def machine(self, bounds: Bounds) -> list[str]:
        usable = f"{self._n_threads} usable CPU" + ("s" if self._n_threads != 1 else "")
        lines = [
            f"CPU           {self._cpu}, {usable}",
            f"memory        {bounds.memory / 1e9:.1f} GB/s",
        ]
        if bounds.integer:
            peaks = (f"{name} {peak / 1e9:.0f}" for name, peak in bounds.integer.items())
            lines.append(f"integer peak  {', '.join(peaks)} G multiply-adds/s")
        if not self._for_weights:
            lines.append(
                "weights       most are not Q8_0, and llama.cpp computes them; a kernel is for "
                "attention and the rest, so the best one is compared with none"
            )
        if self._blas:
            lines.append(
                "BLAS          built in; prompts go through it where weights are not repacked for "
                "a kernel, so it is timed with kernel off"
            )
        return lines

    def head(self) -> list[str]:
        return [_line(_COLUMNS), _line(_UNITS)]

    def rows(self, stage: Stage, rows: Sequence[Row], winner: Settings) -> list[str]:
        """Writes a stage's lines; its winner is marked."""
        names = [stage.name, *[""] * len(rows)]
        return [
            self._row(name, row, row.settings == winner)
            for name, row in zip(names, rows, strict=False)
        ]

    def name(self, settings: Settings) -> str:
        """Names the settings in a few words."""
        kernel, threads, chunk, kv_type = self._cells(settings)
        plural = "" if threads == "1" else "s"
        return f"kernel {kernel}, {threads} thread{plural}, chunk {chunk}, KV {kv_type}"

    def result(self, outcome: Outcome) -> list[str]:
        figures, default = outcome.figures, outcome.default
        request = f"a request of {PROMPT} prompt and {ANSWER} answer tokens takes"
        if outcome.settings != DEFAULT:
            return [
                f"Best: {self.name(outcome.settings)}; {request} {short(figures.seconds)} s, with "
                f"the defaults {short(default.seconds)} s."
            ]
        lines = []
        if outcome.rejected is not None:
            lines.append(f"Not taken: {self.name(outcome.rejected)}; {outcome.reason}.")
        lines.append(
            f"Best: the defaults ({self.name(DEFAULT)}); {request} {short(figures.seconds)} s."
        )
        return lines

    def _row(self, name: str, row: Row, wins: bool) -> str:
        cells = [name, *self._cells(row.settings)]
        if row.figures is None:
            return f"{_line(cells)}  {row.problem}"
        cells += _figures(row.figures)
        return _line(cells) + (" *" if wins else "")

    def _cells(self, settings: Settings) -> tuple[str, str, str, str]:
        kernel = settings.kernel
        if kernel == AUTO:
            kernel = f"{AUTO} ({self._auto})"
        elif kernel == OFF and self._blas:
            kernel = f"{OFF} (BLAS)"
        threads = settings.threads or self._n_threads
        return kernel, str(threads), str(settings.chunk), settings.kv_type


def reached(figures: Figures, memory: float, n_bytes: int) -> list[str]:
    """Says how near decode comes to the memory's limit, as each token reads all weights once.

    Says nothing for a model that fits into the CPU's caches.
    """
    assert figures.decode is not None
    bound = memory / n_bytes
    if figures.decode > bound:
        return []
    return [
        f"Decode reaches {figures.decode / bound:.0%} of the {short(bound)} tokens/s at which the "
        "memory can give all weights."
    ]


def use(server: str, out: Path, model: Path) -> list[str]:
    """Says how to start a server with the file; `server` is the command without arguments."""
    arguments = ["--model-path", str(model), "--tuned", str(out)]
    return [f"Written: {out}", f"  {server} {shlex.join(arguments)}"]


def short(number: float) -> str:
    """Writes three digits, or all that are before the point."""
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"


def _figures(figures: Figures) -> list[str]:
    if figures.decode is None:
        return [short(figures.prefill), "-", "-"]
    return [short(number) for number in (figures.prefill, figures.decode, figures.seconds)]


def _line(cells: Sequence[str]) -> str:
    padded = (
        cell.ljust(-width) if width < 0 else cell.rjust(width)
        for cell, width in zip(cells, _WIDTHS, strict=False)
    )
    return "".join(padded).rstrip()
