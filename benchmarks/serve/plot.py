"""Servers side by side as a picture, from their report.

`python -m benchmarks.serve.plot REPORT.json OUT.png`; SVG by the same name with `.svg`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.common.drawing import BAR_HEIGHT, INK, OWN, PEER, draw_saved
from benchmarks.common.report import spread
from benchmarks.serve.report import (
    CLIENTS_8,
    FOUR_TURNS,
    LLAMA_CPP_PYTHON,
    LLAMA_SERVER,
    LONG_PROMPT,
    MIXED,
    NAMES,
    OURS,
    SHARED_SYSTEM,
    SINGLE,
    Figures,
    Report,
    Round,
)

CONTESTANTS = (OURS, LLAMA_SERVER, LLAMA_CPP_PYTHON)
COLUMNS, WIDTH_IN, ROW_IN, FRAME_IN = 3, 12.5, 0.42, 1.15


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of one scenario."""

    title: str
    unit: str
    scenario: str
    value: Callable[[Figures], float | None]


PANELS = (
    Panel("One client, more is better", "tokens/s", SINGLE, lambda f: f.decode_per_s),
    Panel("8 clients, more is better", "tokens/s in all", CLIENTS_8, lambda f: f.tokens_per_s),
    Panel(
        "First token of a long prompt", "s, less is better", LONG_PROMPT, lambda f: f.first_p50_s
    ),
    Panel(
        *("First token of later turns", "s, less is better", FOUR_TURNS),
        lambda f: median(f.turn_first_s[1:]) if len(f.turn_first_s) > 1 else None,
    ),
    Panel(
        "8 clients, one new system prompt",
        "s for all, less is better",
        SHARED_SYSTEM,
        lambda f: f.wall_s,
    ),
    Panel("Mixed load, first token (p95)", "s, less is better", MIXED, lambda f: f.first_p95_s),
)


def draw(report: Report, path: Path) -> None:
    """Writes the picture; the format is that of the name's ending.

    Raises ValueError for an ending that matplotlib does not know or a report without any of the
    scenarios that are drawn.
    """
    names = [name for name in CONTESTANTS if name in report.contestants]
    panels = [panel for panel in PANELS if panel.scenario in report.scenarios]
    if not panels:
        raise ValueError("the report has none of the scenarios that are drawn")
    # A fixed salt and no date: the same figures give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "serve", "font.size": 10}):
        n_rows = -(-len(panels) // COLUMNS)
        height = 0.6 + n_rows * (FRAME_IN + ROW_IN * len(names))
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        axes = figure.subplots(n_rows, COLUMNS, squeeze=False, sharey=True)
        for place, axis in enumerate(axes.flat):
            if place < len(panels):
                _panel(axis, panels[place], report.rounds, names)
            else:
                axis.set_visible(False)
        axes[0][0].set_yticks(range(len(names)), [NAMES[name] for name in names])
        axes[0][0].invert_yaxis()
        figure.suptitle(
            f"{report.model}, {report.threads} threads, {report.machine.cpu}; medians of the "
            f"rounds ({len(report.rounds)}), lines from lowest to highest",
            fontsize=11,
            color=INK,
        )
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=150, metadata=metadata)


def _panel(axis: Axes, panel: Panel, rounds: Sequence[Round], names: Sequence[str]) -> None:
    longest = 0.0
    for row, name in enumerate(names):
        turns = [round_[name].scenarios for round_ in rounds if name in round_]
        values = [panel.value(turn[panel.scenario]) for turn in turns if panel.scenario in turn]
        seen = spread(value for value in values if value is not None)
        if seen is None:
            continue
        axis.barh(row, seen.median, BAR_HEIGHT, color=OWN if name == OURS else PEER)
        axis.plot([seen.low, seen.high], [row, row], color=INK, linewidth=1)
        longest = max(longest, seen.high)
        axis.annotate(
            f"{seen.median:.3g}",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            color=INK,
            weight="bold" if name == OURS else "normal",
        )
    axis.set_title(panel.title, fontsize=10.5, color=INK)
    axis.set_xlabel(panel.unit)
    axis.set_xlim(0, 1.03 * longest or 1)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m benchmarks.serve.plot`; the exit status is 1 when nothing could be drawn."""
    return draw_saved("benchmarks.serve", Report, draw, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
